# Prometheus from Debian's package, for the tests; its configuration is put at /etc/prometheus/prometheus.yml.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}
RUN apt-get update -q \
 && RUNLEVEL=1 apt-get install -y -q --no-install-recommends prometheus \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/*
USER prometheus
WORKDIR /var/lib/prometheus
EXPOSE 9090
ENTRYPOINT ["prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/var/lib/prometheus/metrics2"]
