# The server, or any other command: docker run --rm -it minigpt-tui generate "ROMEO:"
#
#     docker build -t minigpt-tui .
#     docker build -t minigpt-tui:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
#
# PyTorch's CUDA builds bring all that they need but the driver, so one small base serves both. EXTRAS names the optional
# parts, as in pip install 'minigpt-tui[serve,track]'; PACKAGES names packages of Debian's: the C compiler, 200 MB, that
# builds what texts are written with on the CPU, for the processor that the container then runs on, and that training on
# a GPU is faster with. PACKAGES="" does without. More in docs/containers.md.
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
ARG EXTRAS=serve
RUN /opt/minigpt/bin/pip install --constraint /src/constraints.txt "/src[${EXTRAS}]"

FROM python:${PYTHON}-slim
ARG PACKAGES="gcc libc6-dev"
# hadolint ignore=DL3008,SC2086
RUN if [ -n "${PACKAGES}" ]; then \
        apt-get update && apt-get install --yes --no-install-recommends ${PACKAGES} && rm -rf /var/lib/apt/lists/*; fi
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin minigpt \
    && install --directory --owner minigpt --mode 0700 /data
COPY --from=build /opt/minigpt /opt/minigpt
# All that is written lies under /data: models, runs, texts, history, settings.
# USER is for torch.compile, which wants a name where --user gives a number that has none.
ENV PATH=/opt/minigpt/bin:$PATH MINIGPT_HOME=/data HOST=0.0.0.0 PORT=8000 PYTHONUNBUFFERED=1 LANG=C.UTF-8 USER=minigpt
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
# Not urllib.request: it would ask a proxy that the environment names.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "\
import http.client, os, sys; \
server = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=4); \
server.request('GET', '/health'); \
sys.exit(server.getresponse().status != 200)"]
ENTRYPOINT ["minigpt-tui"]
# It wants MINIGPT_API_KEY, as it listens to everybody; --no-auth does without, in so many words.
CMD ["serve"]
