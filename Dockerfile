# The server, or any other command: docker run --rm -it minigpt-tui generate "ROMEO:"
#
#     docker build -t minigpt-tui .
#     docker build -t minigpt-tui:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
#
# PyTorch's CUDA builds bring all that they need but the driver, so one small base serves both.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/minigpt
# First what changes least: PyTorch alone is most of the image.
COPY constraints.txt /src/
RUN /opt/minigpt/bin/pip install --constraint /src/constraints.txt --index-url "${TORCH_INDEX}" torch
COPY pyproject.toml README.md LICENSE /src/
COPY engine /src/engine
COPY minigpt_tui /src/minigpt_tui
COPY checkpoints /src/checkpoints
COPY data /src/data
RUN /opt/minigpt/bin/pip install --constraint /src/constraints.txt "/src[serve]"

FROM python:${PYTHON}-slim
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin minigpt \
    && install --directory --owner minigpt --mode 0700 /data
COPY --from=build /opt/minigpt /opt/minigpt
# All that is written lies under /data: models, runs, texts, history, settings.
ENV PATH=/opt/minigpt/bin:$PATH MINIGPT_HOME=/data HOST=0.0.0.0 PORT=8000 PYTHONUNBUFFERED=1
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health', timeout=4)"]
ENTRYPOINT ["minigpt-tui"]
# It wants MINIGPT_API_KEY, as it listens to everybody; --no-auth does without, in so many words.
CMD ["serve"]
