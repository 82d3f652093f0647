# One recipe for every service:  docker build --build-arg SERVICE=gateway --build-arg PORT=8081 .
# SERVICE only chooses what starts: all images share every layer but the last.

FROM node:22-slim AS console
WORKDIR /source/clients
COPY clients/package.json clients/package-lock.json clients/.npmrc ./
COPY clients/typescript/package.json typescript/
COPY clients/console/package.json console/
RUN npm ci --no-audit --no-fund
COPY clients/typescript/src typescript/src
COPY clients/console console
RUN HANDRAIL_CONSOLE_OUT=/console npm run build --workspace console

FROM python:3.12-slim AS build
# For the few dependencies that have no wheel on arm64; none of it reaches the final image.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/handrail
ENV PATH=/opt/handrail/bin:$PATH
WORKDIR /source
COPY requirements/image.txt requirements/
RUN pip install --require-hashes -r requirements/image.txt
COPY pyproject.toml README.md ./
COPY libs libs
COPY services services
COPY simulators simulators
COPY src src
COPY --from=console /console services/gateway/src/handrail_gateway/console
RUN pip install --no-deps ./libs/contracts ./libs/engine ./libs/store ./libs/runtime ./libs/sdk ./simulators \
        ./services/orchestrator ./services/agents ./services/notifier ./services/gateway . \
    && pip check

FROM python:3.12-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin handrail
COPY --from=build /opt/handrail /opt/handrail
ENV PATH=/opt/handrail/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 10001:10001
ARG SERVICE=gateway
ARG PORT=8081
ENV HANDRAIL_SERVICE=$SERVICE HANDRAIL_HEALTH_PORT=$PORT
# http.client, not urllib: a proxy in the environment must not be asked about this container's own health.
HEALTHCHECK --interval=5s --timeout=4s --start-period=30s --retries=6 \
    CMD ["python", "-c", "import os, sys; from http.client import HTTPConnection as C; c = C('127.0.0.1', int(os.environ['HANDRAIL_HEALTH_PORT']), timeout=3); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
STOPSIGNAL SIGTERM
CMD ["sh", "-c", "exec python -m handrail_$HANDRAIL_SERVICE"]
