// Frames, uint8 BGR (height, width, 3), to the network's input: RGB planes from 0 to 1, bilinear, the rest 114/255.
// A thread writes four neighbouring pixels of each plane, so that a warp's stores are whole lines of memory.
// NUMBER is float or unsigned short (the bits of a float16), FOUR is four of them.

typedef unsigned char byte;

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

// At an odd whole factor, such as 1080p to 640, both weights are 0 and one byte is read of the four.
__device__ float sample(const byte *above, const byte *below, Tap x, float weight, int channel) {
    float value = above[3 * x.low + channel];
    if (x.weight > 0.0f) value += (above[3 * x.high + channel] - value) * x.weight;
    if (weight > 0.0f) {
        float under = below[3 * x.low + channel];
        if (x.weight > 0.0f) under += (below[3 * x.high + channel] - under) * x.weight;
        value += (under - value) * weight;
    }
    return rintf(value) * (1.0f / 255.0f);
}

extern "C" __global__ void letterbox(
    const byte *frames, NUMBER *images, int frame_height, int frame_width, int input_height, int input_width,
    int top, int left, int height, int width, float step_y, float step_x) {
    int column = 4 * (blockIdx.x * blockDim.x + threadIdx.x), row = blockIdx.y * blockDim.y + threadIdx.y;
    if (column >= input_width || row >= input_height) return;
    const byte *frame = frames + (size_t)blockIdx.z * frame_height * frame_width * 3;
    size_t plane = (size_t)input_height * input_width;
    NUMBER *image = images + 3 * plane * blockIdx.z + (size_t)row * input_width + column;
    NUMBER out[3][4];
    int y = row - top;
    bool inside = y >= 0 && y < height;
    Tap rows = tap(inside ? y : 0, step_y, frame_height);
    const byte *above = frame + (size_t)rows.low * frame_width * 3, *below = frame + (size_t)rows.high * frame_width * 3;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        int x = column + i - left;
        bool seen = inside && x >= 0 && x < width;
        Tap columns = tap(seen ? x : 0, step_x, frame_width);
#pragma unroll
        for (int channel = 0; channel < 3; ++channel) {
            float value = seen ? sample(above, below, columns, rows.weight, channel) : 114.0f / 255.0f;
            store(value, out[2 - channel][i]);
        }
    }
#pragma unroll
    for (int channel = 0; channel < 3; ++channel)
        *(FOUR *)(image + channel * plane) = *(FOUR *)out[channel];
}
