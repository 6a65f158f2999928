# Copyright The rekey Authors.
# SPDX-License-Identifier: Apache-2.0

# Both base images are arguments. To pin one by digest, which a tag cannot change:
#   docker build --build-arg BUILDER=golang:1.26.8-bookworm@sha256:<digest> --build-arg VERSION=v0.1.0 -t rekey.dev/rekey:v0.1.0 .
ARG BUILDER=golang:1.26.8-bookworm
# scratch is enough: the binary is static, connects to the API server with the CA that Kubernetes mounts and to databases with
# the CA in their DatabaseServer, and writes no file. A distroless static image works as well.
ARG BASE=scratch

FROM --platform=${BUILDPLATFORM} ${BUILDER} AS build
WORKDIR /src
# The modules first, so that a change of our own code does not download them again.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY main.go ./
COPY api/ api/
COPY controllers/ controllers/
COPY internal/ internal/
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=v0.1.0
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/cache \
    GOCACHE=/cache CGO_ENABLED=0 GOTOOLCHAIN=local GOOS=${TARGETOS} GOARCH=${TARGETARCH} \
    go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/rekey .

FROM ${BASE}
COPY --from=build /out/rekey /rekey
USER 65532:65532
ENTRYPOINT ["/rekey"]
