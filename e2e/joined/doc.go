// Package joined holds the promises of docs/verification.md about the tunnel as tests on real nodes: three clusters of
// which two have equal ranges and the third overlaps them in part, an agent on each node, real pods.
//
// It is tests only. They share one lab, which the first test starts; root only.
//
//	go test -v -run TestMatrix ./e2e/joined
package joined
