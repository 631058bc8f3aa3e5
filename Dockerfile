# Voltgate in one image: `voltgate run`, and every other command. Build: docker build -t voltgate:0.1.0 .
#
# Dependencies are those of requirements.lock, checked by hash; the wheel is built from this checkout without the network.
# To pin the base by digest too, give what `docker buildx imagetools inspect python:3.11.14-slim-bookworm` prints:
# --build-arg PYTHON_IMAGE=python:3.11.14-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

# ---- build: a virtual environment with everything, and nothing of what was needed to make it ------------------------
FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements.lock requirements-dev.lock ./
RUN python -m venv /opt/voltgate \
 && /opt/voltgate/bin/pip install --require-hashes -r requirements.lock
# setuptools builds the wheel; its lines of the other lock pin it by hash as well.
RUN python -m venv /opt/wheel \
 && awk '/^setuptools==/ { found = 1 } found { print } found && !/\\$/ { exit }' requirements-dev.lock > /tmp/build.lock \
 && /opt/wheel/bin/pip install --require-hashes -r /tmp/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
COPY processors processors
COPY dashboards dashboards
COPY simulators simulators
COPY voltgate voltgate
RUN /opt/wheel/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /dist . \
 && /opt/voltgate/bin/pip install --no-deps --no-index /dist/*.whl \
 && /opt/voltgate/bin/python -m pip uninstall --yes setuptools pip

# ---- the image -------------------------------------------------------------------------------------------------------
FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Voltgate" \
      org.opencontainers.image.description="The open gateway between electric vehicles, their chargers and the people who run them" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
# tini is process 1: it passes signals on and reaps. The supervisor's children end where their parent is process 1.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends tini \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --system --gid 10001 voltgate \
 && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/voltgate --shell /usr/sbin/nologin voltgate \
 && install --directory --owner voltgate --group voltgate --mode 0750 /var/lib/voltgate
COPY --from=build /opt/voltgate /opt/voltgate
COPY deploy/compose/ready.py /opt/voltgate/ready.py
ENV PATH=/opt/voltgate/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    VOLTGATE__DATA=/var/lib/voltgate \
    VOLTGATE__OBSERVE__GATEWAY_PORT=9464 \
    VOLTGATE__OBSERVE__PROCESSORS_PORT=9465
USER 10001:10001
WORKDIR /var/lib/voltgate
VOLUME /var/lib/voltgate
# MQTT, OCPP, metrics and health of gateway and processors. Each listens on the container's loopback until told otherwise.
EXPOSE 1883 9000 9464 9465
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=8s --start-period=60s --retries=3 CMD ["python", "/opt/voltgate/ready.py"]
ENTRYPOINT ["tini", "--", "voltgate"]
CMD ["run"]
