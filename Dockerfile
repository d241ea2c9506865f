# The image: rollcall and the libraries it loads, nothing else, run as a user without a name.
#
#     docker build -t rollcall:0.1.0 .
#
# Without a container engine: deploy/image/build.sh. It takes USER, EXPOSE and ENTRYPOINT from here, and both take the files
# from deploy/image/rootfs.sh.
FROM rust:1.95-bookworm AS build
# What is built in beside what everybody needs: otel (docs/metrics.md), or nothing.
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
