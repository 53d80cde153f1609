# The image of all planes: receiver serve, receiver work, and the rest of `receiver --help`.
#   docker build -t striv-receiver:local .
# linux/amd64 only: for other platforms there is no wheel that carries a SQLite free of the WAL-reset bug.
#
# Tags can be moved. To pin the base image, ask the registry for the digest and give it along:
#   docker buildx imagetools inspect docker.io/library/python:3.13.11-slim-bookworm --format '{{.Manifest.Digest}}'
#   docker build --build-arg PYTHON_IMAGE=docker.io/library/python:3.13.11-slim-bookworm@sha256:... -t striv-receiver:local .
ARG PYTHON_IMAGE=docker.io/library/python:3.13.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
COPY requirements.txt ./
# No pip in the virtual environment, and so none in the image that runs. Wheels only: building one would run its code.
RUN python3 -m venv --without-pip /opt/receiver \
 && python3 -m pip --python /opt/receiver/bin/python3 --no-cache-dir --disable-pip-version-check \
      install --no-deps --require-hashes --only-binary :all: --requirement requirements.txt
COPY receiver receiver
# -I: neither the working directory nor PYTHON* variables decide what is imported. Compiled here, since nothing is written later.
RUN cp -r receiver "$(/opt/receiver/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/" \
 && printf '#!/opt/receiver/bin/python3 -I\nfrom receiver.cli import main\n\nmain()\n' > /opt/receiver/bin/receiver \
 && chmod 0755 /opt/receiver/bin/receiver \
 && /opt/receiver/bin/python3 -m compileall -q /opt/receiver

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="striv-receiver" \
      org.opencontainers.image.description="Turns verified GitHub pushes into Tekton PipelineRuns" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/receiver /opt/receiver
ENV PATH=/opt/receiver/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    RECEIVER_CONFIG=/etc/receiver/receiver.yaml
USER 65532:65532
EXPOSE 8000
# For Docker and the like; Kubernetes has its own probes. Of `receiver work` alone it knows nothing: docker run --no-healthcheck.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
  CMD ["/opt/receiver/bin/python3", "-I", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["receiver"]
CMD ["serve"]
