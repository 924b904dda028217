# The embedded collector in a container: a server for development and tests.
#   docker build -t umami-collector . && docker run --rm -p 127.0.0.1:3000:3000 umami-collector
FROM python:3.13-slim

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY umami ./umami
RUN pip install --no-cache-dir '.[collector]' && useradd --create-home collector

USER collector
WORKDIR /home/collector
EXPOSE 3000
# A container's published port does not reach its loopback interface, so listen on all interfaces.
ENTRYPOINT ["umami", "collector", "--host", "0.0.0.0", "--allow-remote", "--port", "3000"]
