# PostgreSQL from Debian's package, for the tests: one cluster, who comes over the tests' network is let in.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}
RUN mkdir -p /etc/postgresql-common \
 && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf \
 && apt-get update -q \
 && apt-get install -y -q --no-install-recommends postgresql \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/* \
 && ln -s /usr/lib/postgresql/*/bin /usr/local/postgresql
USER postgres
RUN /usr/local/postgresql/initdb -D /var/lib/postgresql/data -U heartwood -A trust -E UTF8 \
 && echo 'host all all all trust' >>/var/lib/postgresql/data/pg_hba.conf
EXPOSE 5432
# The fast shutdown, which does not wait for clients.
STOPSIGNAL SIGINT
ENTRYPOINT ["/usr/local/postgresql/postgres", "-D", "/var/lib/postgresql/data", "-c", "listen_addresses=*"]
