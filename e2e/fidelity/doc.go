// Package fidelity shows that a user cannot tell, from home, that a pod runs in a peer: it makes each of a table of pods twice
// from the same manifest, on a real node of home and on the virtual node of a peer with a real node, and compares what the
// two show and what their containers see: status, files, environment, exit codes, restarts, names.
//
// It is tests only, root only. What differs by design is named in the table, and told with its reason in docs/reference.md.
//
//	go test -v ./e2e/fidelity
package fidelity
