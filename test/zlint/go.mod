// A module of its own: zlint is needed by this test only, and the version of publicsuffix-go that it asks for is a commit
// that not every module proxy serves, so that it is left out and a release takes its place.
module github.com/rekey/rekey/test/zlint

go 1.26.0

require (
	github.com/rekey/rekey v0.0.0
	github.com/zmap/zcrypto v0.0.0-20260906180147-3ed30b1e9340
	github.com/zmap/zlint/v3 v3.7.3
)

require (
	github.com/pelletier/go-toml v1.9.5 // indirect
	github.com/spiffe/go-spiffe/v2 v2.9.0 // indirect
	github.com/weppos/publicsuffix-go v0.50.3 // indirect
	golang.org/x/crypto v0.57.0 // indirect
	golang.org/x/net v0.59.0 // indirect
	golang.org/x/text v0.42.0 // indirect
)

replace github.com/rekey/rekey => ../..

exclude github.com/weppos/publicsuffix-go v0.50.4-0.20260821095816-b0fdb5c2d345
