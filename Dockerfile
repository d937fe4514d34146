# docker build -t phalanx .                                    with CUDA, about 6 GB
# docker build -t phalanx --build-arg TORCH_BACKEND=cpu .      without
# docker run --rm -it --gpus all -v "$PWD/runs:/work/runs" phalanx train task=Ant
FROM python:3.12-slim

# OpenGL for films, a compiler for Triton's kernels, git for the commit in result.json.
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends libegl1 libgl1 gcc libc6-dev git \
    && rm -rf /var/lib/apt/lists/*

ARG TORCH_BACKEND=
COPY . /phalanx
RUN pip install -q uv \
    && uv pip install -q --system --no-cache ${TORCH_BACKEND:+--torch-backend=$TORCH_BACKEND} \
       "/phalanx[export,view]" /phalanx/isaacgym

ENV MUJOCO_GL=egl NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics
WORKDIR /work
ENTRYPOINT ["phalanx"]
CMD ["--help"]
