# The lab on a GPU host: CUDA, TensorRT and TensorRT-RTX, Nsight Systems. The host brings a driver of 580 or newer and
# the NVIDIA Container Toolkit.
#   docker build -t yolotrt-lab .
#   docker run --rm --gpus all -v "$PWD/build:/lab/build" yolotrt-lab run --device cuda
#   docker run --rm --gpus all -p 8888:8888 --entrypoint jupyter yolotrt-lab lab --ip 0.0.0.0 --allow-root notebooks
# Without a GPU it runs on the simulated device; `--build-arg EXTRAS=notebooks,lab` leaves CUDA's packages out.
FROM nvidia/cuda:13.0.1-base-ubuntu24.04

RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv git make cuda-nsight-systems-13-0 \
    && rm -rf /var/lib/apt/lists/*

ENV PATH=/opt/lab/bin:/usr/local/cuda/bin:$PATH
WORKDIR /lab
COPY . .
ARG EXTRAS=notebooks,lab,cuda13,rtx,tensorrt
RUN python3 -m venv /opt/lab && pip install --no-cache-dir -c constraints.txt -e ".[$EXTRAS]"

ENTRYPOINT ["yolotrt-lab"]
CMD ["doctor"]
