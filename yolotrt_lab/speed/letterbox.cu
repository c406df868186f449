// Frames, BGR or NV12, to the network's input: RGB planes from 0 to 1, bilinear, the rest 114/255.
// A thread writes four neighbouring pixels of each plane, so that a warp's stores are whole lines of memory.
// NUMBER is float or unsigned short (the bits of a float16), FOUR is four of them.

typedef unsigned char byte;

struct Colour {
    float channel[3];  // red, green, blue
};

// uint8 (height, width, 3).
struct Bgr {
    const byte *pixels;
    int width;

    __device__ Colour at(int row, int column) const {
        const byte *pixel = pixels + 3 * ((size_t)row * width + column);
        return {{(float)pixel[2], (float)pixel[1], (float)pixel[0]}};
    }
};

// uint8 (height + height / 2, width): a plane of luma, below it one of U and V in turns, one pair for 2 x 2 pixels.
// The rest are weights times 2^20. Colours are whole grey levels from 0 to 255.
struct Nv12 {
    const byte *luma, *chroma;
    int width, of_luma, red_of_v, green_of_u, green_of_v, blue_of_u;

    __device__ float level(int value) const {
        int whole = (value + (1 << 19)) >> 20;
        return (float)(whole < 0 ? 0 : whole > 255 ? 255 : whole);
    }

    __device__ Colour at(int row, int column) const {
        const byte *pair = chroma + (size_t)(row >> 1) * width + (column & ~1);
        int above_black = luma[(size_t)row * width + column] - 16, u = pair[0] - 128, v = pair[1] - 128;
        int y = (above_black > 0 ? above_black : 0) * of_luma;
        return {{level(y + red_of_v * v), level(y + green_of_u * u + green_of_v * v), level(y + blue_of_u * u)}};
    }
};

struct Tap {
    int low, high;
    float weight;
};

__device__ Tap tap(int position, float step, int size) {
    float at = (position + 0.5f) * step - 0.5f;
    int low = (int)floorf(at);
    float weight = at - low;
    if (low < 0) {
        low = 0;
        weight = 0.0f;
    }
    if (low >= size - 1) {
        low = size - 1;
        weight = 0.0f;
    }
    return {low, weight > 0.0f ? low + 1 : low, weight};
}

__device__ void store(float value, float &out) { out = value; }

__device__ void store(float value, unsigned short &out) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out) : "f"(value)); }

__device__ Colour mixed(Colour first, Colour second, float weight) {
#pragma unroll
    for (int i = 0; i < 3; ++i) first.channel[i] += (second.channel[i] - first.channel[i]) * weight;
    return first;
}

template <typename Frame> __device__ Colour across(Frame frame, int row, Tap x) {
    Colour found = frame.at(row, x.low);
    return x.weight > 0.0f ? mixed(found, frame.at(row, x.high), x.weight) : found;
}

struct Place {
    int frame_height, frame_width, input_height, input_width, top, left, height, width;
    float step_y, step_x;
};

// At an odd whole factor, such as 1080p to 640, both weights are 0 and one pixel is read of the four.
template <typename Frame> __device__ void fill(Frame frame, NUMBER *images, Place place) {
    int column = 4 * (blockIdx.x * blockDim.x + threadIdx.x), row = blockIdx.y * blockDim.y + threadIdx.y;
    if (column >= place.input_width || row >= place.input_height) return;
    size_t plane = (size_t)place.input_height * place.input_width;
    NUMBER *image = images + 3 * plane * blockIdx.z + (size_t)row * place.input_width + column;
    NUMBER out[3][4];
    int y = row - place.top;
    bool inside = y >= 0 && y < place.height;
    Tap rows = tap(inside ? y : 0, place.step_y, place.frame_height);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        int x = column + i - place.left;
        bool seen = inside && x >= 0 && x < place.width;
        Colour found = {{114.0f, 114.0f, 114.0f}};
        if (seen) {
            Tap columns = tap(x, place.step_x, place.frame_width);
            found = across(frame, rows.low, columns);
            if (rows.weight > 0.0f) found = mixed(found, across(frame, rows.high, columns), rows.weight);
        }
#pragma unroll
        for (int channel = 0; channel < 3; ++channel)
            store(seen ? rintf(found.channel[channel]) * (1.0f / 255.0f) : 114.0f / 255.0f, out[channel][i]);
    }
#pragma unroll
    for (int channel = 0; channel < 3; ++channel)
        *(FOUR *)(image + channel * plane) = *(FOUR *)out[channel];
}

extern "C" __global__ void letterbox(
    const byte *frames, NUMBER *images, int frame_height, int frame_width, int input_height, int input_width,
    int top, int left, int height, int width, float step_y, float step_x) {
    Place place = {frame_height, frame_width, input_height, input_width, top, left, height, width, step_y, step_x};
    const byte *pixels = frames + 3 * ((size_t)blockIdx.z * frame_height * frame_width);
    fill(Bgr{pixels, frame_width}, images, place);
}

extern "C" __global__ void letterbox_nv12(
    const byte *frames, NUMBER *images, int frame_height, int frame_width, int input_height, int input_width,
    int top, int left, int height, int width, float step_y, float step_x, int of_luma, int red_of_v, int green_of_u,
    int green_of_v, int blue_of_u) {
    Place place = {frame_height, frame_width, input_height, input_width, top, left, height, width, step_y, step_x};
    size_t luma = (size_t)frame_height * frame_width;
    const byte *pixels = frames + (luma + luma / 2) * blockIdx.z;
    Nv12 frame = {pixels, pixels + luma, frame_width, of_luma, red_of_v, green_of_u, green_of_v, blue_of_u};
    fill(frame, images, place);
}
