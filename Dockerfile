# Dependencies apart from the source, so that a change of source does not install anew.
FROM oven/bun:1.4.5-slim AS dependencies
WORKDIR /app
COPY package.json bun.lock bunfig.toml ./
RUN bun install --frozen-lockfile --production

FROM oven/bun:1.4.5-slim
WORKDIR /app
# The last one: collect garbage as on a machine of 512 MB, as the container's limit is well under the host's memory.
ENV NODE_ENV=production DATA_DIR=/data BUN_JSC_forceRAMSize=536870912
COPY --from=dependencies /app/node_modules node_modules
COPY package.json tsconfig.json ./
COPY migrations migrations
COPY src src
RUN mkdir /data && chown bun:bun /data
USER bun
VOLUME /data
EXPOSE 8000
# SIGTERM drains: the exec form makes bun process 1, so that it gets the signal.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["bun", "-e", "const r = await fetch(`http://127.0.0.1:${process.env.PORT ?? 8000}/healthz`); process.exit(r.ok ? 0 : 1)"]
ENTRYPOINT ["bun", "src/cli.ts"]
CMD ["up"]
