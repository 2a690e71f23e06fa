// Package fidelity shows that a user cannot tell, from home, that a pod runs in a peer: it makes each of a table of pods twice
// from the same manifest, on a real node of home and on the virtual node of a peer with a real node, and compares what the
// two show and what their containers see: status, files, environment, exit codes, restarts, names, Warnings. Some shapes change a pod
// while it runs, and compare what comes of it. Beside the table it measures when a changed ConfigMap is in mounted files, and holds
// that the pods of a StatefulSet are called, found and replaced alike.
//
// It is tests only, root only. What differs by design is named in the table, and told with its reason in docs/reference.md.
//
//	go test -v ./e2e/fidelity
package fidelity
