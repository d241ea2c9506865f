# The image contains only rollcall, its shared libraries and its licence. It runs as an unprivileged user.
#
#     docker build -t rollcall:0.1.0 .
#
# deploy/image/build.sh builds the same image without a container engine. It reads USER, EXPOSE and ENTRYPOINT from this file.
# Both builds take the files from deploy/image/rootfs.sh.
FROM rust:1.95-bookworm AS build
# Optional cargo features: otel (docs/metrics.md), or none.
ARG FEATURES=
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --no-default-features --features "$FEATURES" && \
    deploy/image/rootfs.sh target/release/rollcall /rootfs

FROM scratch
COPY --from=build /rootfs/ /
USER 65532:65532
EXPOSE 8080/tcp 1053/udp 1053/tcp 9090/tcp
ENTRYPOINT ["/usr/bin/rollcall"]
