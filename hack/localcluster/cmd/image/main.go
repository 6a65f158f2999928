// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command image builds a container image from one static binary.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/rekey/rekey/hack/localcluster/internal/image"
)

// hostCerts are the files where distributions keep trusted CAs.
var hostCerts = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem",
}

func main() {
	spec := image.Spec{}
	out := flag.String("out", "", "the archive to write")
	flag.StringVar(&spec.Name, "name", "rekey.dev/rekey:dev", "name and tag of the image")
	flag.StringVar(&spec.Binary, "binary", "", "the static Linux binary that the image runs")
	flag.StringVar(&spec.Entrypoint, "entrypoint", "/rekey", "path of the binary in the image")
	flag.StringVar(&spec.User, "user", "65532:65532", "uid:gid that the image runs as")
	certs := flag.Bool("ca-certs", false, "add the CAs that this machine trusts to the image")
	flag.Parse()
	if err := run(spec, *out, *certs); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(spec image.Spec, out string, certs bool) error {
	if out == "" || spec.Binary == "" || flag.NArg() > 0 {
		return errors.New("--out FILE.tar and --binary PATH are required, and only flags are accepted")
	}
	if certs {
		for _, file := range hostCerts {
			if _, err := os.Stat(file); err == nil {
				spec.CACerts = file
				break
			}
		}
		if spec.CACerts == "" {
			return fmt.Errorf("no bundle of trusted CAs in any of %v; install ca-certificates", hostCerts)
		}
	}
	return image.Write(spec, out)
}
