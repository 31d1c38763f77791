# The receiver without a database of its own: name one with RECEIVER_DATABASE_URL.

FROM python:3.13-slim AS build

WORKDIR /build
RUN python -m venv /opt/receiver
COPY requirements.txt ./
RUN /opt/receiver/bin/pip install --no-cache-dir --require-hashes -r requirements.txt
COPY pyproject.toml README.md prometheus.yml ./
COPY migrations migrations
COPY deploy/prometheus/rules deploy/prometheus/rules
COPY docs/tables.schema.json docs/tables.schema.json
COPY receiver receiver
RUN /opt/receiver/bin/pip install --no-cache-dir --no-deps .

FROM python:3.13-slim

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
