// The network's output (4 + classes, anchors) to boxes, as `vision.decode` finds them on the host.
// `candidates` lists the anchors whose best score is above the threshold, `suppress` keeps the best of those that
// overlap; `take` reads an end-to-end head, (boxes, 6), which has done both. Compiled without fused multiply-add: every number is rounded as on the host.
// NUMBER is float or unsigned short (the bits of a float16).

#define GROUPS 8
#define SCRATCH (1 + 3 * CAPACITY)
#define RESULT (4 + 6 * KEPT)

__device__ float number(float value) { return value; }

__device__ float number(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

// A block of 32 x GROUPS threads looks at 32 anchors; each row of threads takes every GROUPS-th class.
extern "C" __global__ void candidates(
    const NUMBER *outputs, int *scratch, int classes, int anchors, float confidence) {
    __shared__ float scores[GROUPS][32];
    __shared__ int kinds[GROUPS][32];
    int lane = threadIdx.x, group = threadIdx.y, anchor = blockIdx.x * 32 + lane, kind = 0;
    const NUMBER *table = outputs + (size_t)blockIdx.z * (4 + classes) * anchors;
    float best = -1.0f;
    if (anchor < anchors)
        for (int k = group; k < classes; k += GROUPS) {
            float score = number(table[(size_t)(4 + k) * anchors + anchor]);
            if (score > best) {
                best = score;
                kind = k;
            }
        }
    scores[group][lane] = best;
    kinds[group][lane] = kind;
    __syncthreads();
    if (group || anchor >= anchors) return;
    for (int other = 1; other < GROUPS; ++other) {  // of equal scores the lower class, as argmax has it
        float score = scores[other][lane];
        if (score > best || (score == best && kinds[other][lane] < kind)) {
            best = score;
            kind = kinds[other][lane];
        }
    }
    if (!(best > confidence)) return;
    if (!(number(table[2 * (size_t)anchors + anchor]) > 0.0f && number(table[3 * (size_t)anchors + anchor]) > 0.0f))
        return;
    int *mine = scratch + blockIdx.z * SCRATCH;
    int place = atomicAdd(mine, 1);
    if (place >= CAPACITY) return;
    mine[1 + place] = anchor;
    mine[1 + CAPACITY + place] = kind;
    mine[1 + 2 * CAPACITY + place] = __float_as_int(best);
}

struct Box {
    float x, y, width, height;
};

// How much two boxes overlap, with the operations and roundings of OpenCV's NMSBoxes.
__device__ float overlap(Box a, Box b) {
    double first_x = a.x < b.x ? a.x : b.x, last_x = a.x < b.x ? b.x : a.x;
    double first_y = a.y < b.y ? a.y : b.y, last_y = a.y < b.y ? b.y : a.y;
    double first_width = a.x < b.x ? a.width : b.width, last_width = a.x < b.x ? b.width : a.width;
    double first_height = a.y < b.y ? a.height : b.height, last_height = a.y < b.y ? b.height : a.height;
    double width = fmin(first_width - (last_x - first_x), last_width);
    double height = fmin(first_height - (last_y - first_y), last_height);
    double shared = width > 0.0 && height > 0.0 ? width * height : 0.0;
    double areas = (double)a.width * a.height + (double)b.width * b.height;
    return 1.0f - (float)(1.0 - shared / (areas - shared));
}

// A position in the network's input as one in the frame.
__device__ float placed(float value, int corner, float scale, int limit) {
    return fminf(fmaxf((value - corner) / scale, 0.0f), (float)limit);
}

// One block a frame. Candidates are ranked by score, then anchor; the best of each class suppresses what it overlaps.
extern "C" __global__ void suppress(
    const NUMBER *outputs, int *scratch, int *results, int classes, int anchors, float iou, int frame_height,
    int frame_width, float scale_x, float scale_y, int left, int top) {
    __shared__ Box boxes[CAPACITY];
    __shared__ float scores[CAPACITY];
    __shared__ short kinds[CAPACITY];
    __shared__ bool kept[CAPACITY];
    int *mine = scratch + blockIdx.z * SCRATCH, *result = results + blockIdx.z * RESULT;
    const NUMBER *table = outputs + (size_t)blockIdx.z * (4 + classes) * anchors;
    int found = mine[0], count = found <= CAPACITY ? found : 0;
    const int *places = mine + 1, *classes_of = mine + 1 + CAPACITY, *scores_of = mine + 1 + 2 * CAPACITY;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        int anchor = places[i], rank = 0;
        float score = __int_as_float(scores_of[i]);
        for (int j = 0; j < count; ++j) {
            float other = __int_as_float(scores_of[j]);
            rank += other > score || (other == score && places[j] < anchor);
        }
        float width = number(table[2 * (size_t)anchors + anchor]), height = number(table[3 * (size_t)anchors + anchor]);
        boxes[rank] = {number(table[anchor]) - width / 2.0f, number(table[(size_t)anchors + anchor]) - height / 2.0f,
                       width, height};
        scores[rank] = score;
        kinds[rank] = (short)classes_of[i];
        kept[rank] = true;
        mine[1 + CAPACITY + i] = rank | classes_of[i] << 16;
    }
    __syncthreads();
    for (int i = 0; i < count; ++i) {
        if (kept[i]) {
            Box best = boxes[i];
            for (int j = i + 1 + threadIdx.x; j < count; j += blockDim.x)
                if (kept[j] && kinds[j] == kinds[i] && overlap(best, boxes[j]) > iou) kept[j] = false;
        }
        __syncthreads();
    }
    float *corners = (float *)(result + 4), *best = corners + 4 * KEPT;
    int *kind_of = (int *)(best + KEPT);
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        int rank = mine[1 + CAPACITY + i] & 0xffff, place = 0;
        if (!kept[rank]) continue;
        for (int j = 0; j < rank; ++j) place += kept[j];
        if (place >= KEPT) continue;
        int anchor = places[i];
        float x = number(table[anchor]), y = number(table[(size_t)anchors + anchor]);
        float half_width = boxes[rank].width / 2.0f, half_height = boxes[rank].height / 2.0f;
        corners[4 * place] = placed(x - half_width, left, scale_x, frame_width);
        corners[4 * place + 1] = placed(y - half_height, top, scale_y, frame_height);
        corners[4 * place + 2] = placed(x + half_width, left, scale_x, frame_width);
        corners[4 * place + 3] = placed(y + half_height, top, scale_y, frame_height);
        best[place] = scores[rank];
        kind_of[place] = kinds[rank];
    }
    __syncthreads();
    if (threadIdx.x) return;
    int total = 0;
    for (int i = 0; i < count; ++i) total += kept[i];
    result[0] = found <= CAPACITY ? min(total, KEPT) : -1;
    result[1] = found;
    mine[0] = 0;  // for the next frame
}

// One block a frame. Rows are left, top, right, bottom, score, class; those above the threshold are ranked by score,
// then row. The caller sees to it that there are CAPACITY rows at most.
extern "C" __global__ void take(
    const NUMBER *outputs, int *results, int rows, float confidence, int frame_height, int frame_width, float scale_x,
    float scale_y, int left, int top) {
    __shared__ float scores[CAPACITY];
    const NUMBER *table = outputs + (size_t)blockIdx.z * rows * 6;
    int *result = results + blockIdx.z * RESULT;
    for (int i = threadIdx.x; i < rows; i += blockDim.x) {
        const NUMBER *row = table + 6 * i;
        bool good = number(row[4]) > confidence && number(row[2]) - number(row[0]) > 0.0f &&
                    number(row[3]) - number(row[1]) > 0.0f;
        scores[i] = good ? number(row[4]) : -1.0f;
    }
    __syncthreads();
    float *corners = (float *)(result + 4), *best = corners + 4 * KEPT;
    int *kind_of = (int *)(best + KEPT);
    for (int i = threadIdx.x; i < rows; i += blockDim.x) {
        const NUMBER *row = table + 6 * i;
        float score = scores[i];
        int place = 0;
        if (score < 0.0f) continue;
        for (int j = 0; j < rows; ++j) place += scores[j] > score || (scores[j] == score && j < i);
        if (place >= KEPT) continue;
        corners[4 * place] = placed(number(row[0]), left, scale_x, frame_width);
        corners[4 * place + 1] = placed(number(row[1]), top, scale_y, frame_height);
        corners[4 * place + 2] = placed(number(row[2]), left, scale_x, frame_width);
        corners[4 * place + 3] = placed(number(row[3]), top, scale_y, frame_height);
        best[place] = score;
        kind_of[place] = (int)number(row[5]);
    }
    if (threadIdx.x) return;
    int total = 0;
    for (int i = 0; i < rows; ++i) total += scores[i] >= 0.0f;
    result[0] = min(total, KEPT);
    result[1] = total;
}
