# The receiver without a database of its own: name one with RECEIVER_DATABASE_URL.

FROM python:3.13-slim AS build

WORKDIR /build
# What is installed has no pip; what installs it stays behind.
RUN python -m venv --without-pip /opt/receiver && python -m venv /opt/build
COPY requirements.txt requirements-build.txt ./
RUN /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements-build.txt && \
    /opt/build/bin/pip --python /opt/receiver/bin/python install --no-cache-dir --require-hashes -r requirements.txt
COPY pyproject.toml README.md prometheus.yml ./
COPY migrations migrations
COPY deploy/prometheus/rules deploy/prometheus/rules
COPY docs/tables.schema.json docs/tables.schema.json
COPY receiver receiver
RUN /opt/build/bin/pip wheel --no-build-isolation --no-deps --wheel-dir wheels . && \
    /opt/build/bin/pip --python /opt/receiver/bin/python install --no-deps --no-index wheels/*.whl

FROM python:3.13-slim

# The base image's pip, and the copy that `venv` would install.
RUN rm -rf /usr/local/bin/pip* $(python -c "import ensurepip, pip; print(ensurepip.__path__[0], pip.__path__[0] + '*')")
COPY --from=build /opt/receiver /opt/receiver
ENV PATH=/opt/receiver/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    RECEIVER_LISTEN=0.0.0.0:9201

# By number, so that Kubernetes' runAsNonRoot can tell it is not root.
USER 10001:10001
WORKDIR /tmp
EXPOSE 9201
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s CMD ["receiver", "health"]
ENTRYPOINT ["receiver"]
CMD ["serve"]
