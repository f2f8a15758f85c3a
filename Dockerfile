# The two services and the command line in one image, for linux/amd64 and linux/arm64. docs/containers.md says how it is built and run.
# Only what the classic builder knows as well as BuildKit: no mounts, no here-documents, no --chmod.

# Both bases can be replaced, by a mirror's or by ones made on the spot (scripts/containers/base-images.mjs).
ARG NODE_IMAGE=node:20-bookworm-slim
ARG BASE_IMAGE=debian:bookworm-slim

# --- what runs: production packages, for this platform alone ---
FROM ${NODE_IMAGE} AS packages
# A registry of one's own, where npm's cannot be reached.
ARG NPM_REGISTRY=https://registry.npmjs.org/
ENV npm_config_registry=${NPM_REGISTRY} npm_config_update_notifier=false npm_config_cache=/npm
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --no-audit --no-fund --loglevel=error
COPY scripts/containers/trim-packages.mjs scripts/containers/
RUN node scripts/containers/trim-packages.mjs node_modules

# --- the compiler, which stays behind ---
FROM packages AS build
RUN npm ci --include=dev --ignore-scripts --prefer-offline --no-audit --no-fund --loglevel=error
COPY scripts/build.mjs scripts/
COPY proto proto
COPY libs libs
COPY services services
RUN node scripts/build.mjs --clean --product

# --- the image ---
FROM ${BASE_IMAGE}
# One user, by number, so that an orchestrator can see that it is not root, and volumes can be given to it.
RUN groupadd --gid 10001 heartwood \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/heartwood --shell /usr/sbin/nologin heartwood \
 && mkdir -p /var/lib/heartwood/repository /var/lib/heartwood/pruner \
 && chown -R 10001:10001 /var/lib/heartwood
COPY --from=packages /usr/local/bin/node /usr/local/bin/node
COPY --from=packages /app/node_modules /app/node_modules
COPY LICENSE package.json /app/
COPY bin /app/bin
COPY models /app/models
COPY --from=build /app/dist /app/dist
RUN ln -s /app/bin/heartwood.mjs /usr/local/bin/heartwood
# Huge pages for weights (docs/operations.md); glibc reads it before the process begins, so it cannot be a flag.
ENV NODE_ENV=production GLIBC_TUNABLES=glibc.malloc.hugetlb=1
USER 10001:10001
WORKDIR /var/lib/heartwood
# All that is ever written to: the root file system may be read-only.
VOLUME ["/var/lib/heartwood/repository", "/var/lib/heartwood/pruner", "/tmp"]
# The server's gRPC and metrics, and the pruner's.
EXPOSE 8001 8002 8003 8004
STOPSIGNAL SIGTERM
# Of whichever service runs here. The start period is what loading a large repository may take.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 CMD ["heartwood", "health"]
ENTRYPOINT ["heartwood"]
CMD ["serve", "--repository", "/var/lib/heartwood/repository"]
# Last, since they change with every build.
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="Heartwood" \
      org.opencontainers.image.description="Prunes vision transformers and language models under a loss budget, and serves them with what was saved" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
