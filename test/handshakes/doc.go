// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package handshakes holds internal/handshake to real servers and clients. Its tests start nginx, HAProxy, Apache, stunnel,
// OpenSSL's s_server, Go, Java, Node, PostgreSQL, MariaDB, Redis and etcd in scratch folders on loopback, provoke every cause with
// TLS 1.2 and 1.3, and compare what rekey reports with the truth. Meanwhile curl, OpenSSL, Go, Java and Node connect to a server
// of rekey's kind. The results are docs/handshakes.md, which -update writes; on Debian 12, whose peers it shows, it must match.
//
// A verdict is wrong if the true cause is not among those reported, or if it reports one that rekey could have excluded.
// The tests need what hack/install-deps.sh test java peers installs.
package handshakes
