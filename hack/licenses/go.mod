// What knows licences is a module of its own: what it needs, Dovetail does not.
module github.com/dovetail-dev/dovetail/hack/licenses

go 1.26.6

require (
	github.com/google/licensecheck v0.3.1
	github.com/spdx/tools-golang v0.5.7
)

require github.com/anchore/go-struct-converter v0.1.0 // indirect
