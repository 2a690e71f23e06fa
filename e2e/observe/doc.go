// Package observe holds the tests of what Spillway tells of itself while it works: measures and traces, compared with what the API servers
// counted.
//
//	go test -v ./e2e/observe
package observe
