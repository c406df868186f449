// The upload of the public program (triple-Mu/YOLOv8-TensorRT, csrc/detect/end2end), before and after its input is pinned.
//
//     nvcc -O2 copy_from_mat.cu -o copy_from_mat $(pkg-config --cflags --libs opencv4)
//     ./copy_from_mat 2000 > times.csv
//
// Derived from what that program does, not copied from it. The network is a kernel of 0.4 ms. Loops take turns of 100
// frames; each row is one frame, in nanoseconds. For both it is checked that the GPU got the letterboxed image.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
#include <vector>

#define CHECK(call)                                                                                  \
    if (cudaError_t error = (call)) {                                                                \
        std::fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(error));                          \
        std::exit(1);                                                                                \
    }

constexpr int height = 640, width = 640;
constexpr size_t size = sizeof(float) * 3 * height * width;

long long now() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

__global__ void network(long long for_ns) {
    long long start, time;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(start));
    do asm volatile("mov.u64 %0, %globaltimer;" : "=l"(time)); while (time - start < for_ns);
}

void letterbox(const cv::Mat& image, cv::Mat& nchw) {
    double scale = std::min(double(height) / image.rows, double(width) / image.cols);
    int rows = std::lround(image.rows * scale), columns = std::lround(image.cols * scale);
    cv::Mat small, square;
    cv::resize(image, small, {columns, rows});
    int top = (height - rows) / 2, left = (width - columns) / 2;
    cv::copyMakeBorder(
        small, square, top, height - rows - top, left, width - columns - left, cv::BORDER_CONSTANT, {114, 114, 114});
    int shape[] = {1, 3, height, width};
    nchw.create(4, shape, CV_32F);  // leaves memory alone whose shape and type fit
    std::vector<cv::Mat> planes;
    cv::split(square, planes);
    for (int plane = 0; plane < 3; ++plane) {
        cv::Mat target(height, width, CV_32F, nchw.ptr<float>() + size_t(2 - plane) * height * width);  // BGR to RGB
        planes[plane].convertTo(target, CV_32F, 1 / 255.0);
    }
}

int main(int count, char** arguments) {
    int frames = count > 1 ? std::atoi(arguments[1]) : 2000;
    std::vector<cv::Mat> images(8);
    cv::RNG random(0);
    for (auto& image : images) {
        image.create(1080, 1920, CV_8UC3);
        random.fill(image, cv::RNG::UNIFORM, 0, 256);
    }
    void *h_input, *d_input;
    CHECK(cudaHostAlloc(&h_input, size, 0));  // once, where the program allocates its outputs
    CHECK(cudaMalloc(&d_input, size));
    cudaStream_t stream;
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    int shape[] = {1, 3, height, width}, wrong = 0;
    cv::Mat reference;
    std::vector<char> arrived(size);
    std::puts("frame,pinned,letterbox_ns,upload_ns,enqueue_ns,synchronize_ns");
    for (int frame = 0; frame < 2 * frames; ++frame) {
        bool pinned = frame / 100 % 2, checked = frame % 100 < 8;
        const cv::Mat& image = images[frame % images.size()];
        long long start = now();
        {
            cv::Mat nchw = pinned ? cv::Mat(4, shape, CV_32F, h_input) : cv::Mat();
            letterbox(image, nchw);
            wrong += pinned && nchw.data != h_input;
            long long letterboxed = now();
            CHECK(cudaMemcpyAsync(d_input, nchw.ptr(), size, cudaMemcpyHostToDevice, stream));
            long long uploaded = now();
            network<<<1, 1, 0, stream>>>(400'000);
            long long enqueued = now();
            CHECK(cudaStreamSynchronize(stream));
            std::printf("%d,%d,%lld,%lld,%lld,%lld\n", frame, pinned, letterboxed - start, uploaded - letterboxed,
                        enqueued - uploaded, now() - enqueued);
        }
        if (checked) {
            letterbox(image, reference);
            CHECK(cudaMemcpy(arrived.data(), d_input, size, cudaMemcpyDeviceToHost));
            wrong += std::memcmp(arrived.data(), reference.ptr(), size) != 0;
        }
    }
    std::fprintf(stderr, "%d wrong\n", wrong);
    return wrong != 0;
}
