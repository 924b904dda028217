# The embedded collector in a container: an Umami to develop and test against.
#   docker build -t umami-collector . && docker run --rm -p 127.0.0.1:3000:3000 umami-collector
FROM python:3.13-slim

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY umami ./umami
RUN pip install --no-cache-dir '.[collector]' && useradd --create-home collector

USER collector
WORKDIR /home/collector
EXPOSE 3000
# Inside a container the port is published on the host's side, so it has to listen beyond loopback here.
ENTRYPOINT ["umami", "collector", "--host", "0.0.0.0", "--allow-remote", "--port", "3000"]
