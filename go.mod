module github.com/rekey/rekey

go 1.26.0
