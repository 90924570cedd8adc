# The program on a slim Debian. Postgres and Redis run elsewhere: see docker-compose.yml.
FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
# rust-toolchain.toml asks for components that a build does not need; the image's compiler is the one that it names.
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin orderstream \
    && install -D target/release/orderstream /out/orderstream

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /data orderstream
COPY --from=build /out/orderstream /usr/local/bin/orderstream
USER orderstream
WORKDIR /data
STOPSIGNAL SIGTERM
ENTRYPOINT ["orderstream"]
CMD ["run"]
