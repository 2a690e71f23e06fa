// Package fuzz makes ten thousand random pods and holds what package translate makes of them against a real API server.
//
// It is tests only. A pod is made from a seed and its number, alone and always the same; the seed is new for each run and
// printed. Every field of the pod type that a user can set is set by some of them, which a test proves. The pods are made
// to be valid, so that their twins must be: the API server of the lab takes each pod at home, and then its twin in the
// namespace of a tenant, both as dry runs. The cluster has no nodes.
//
//	go test -v ./e2e/fuzz -args -seed 7 -pods 100000
//	go test -v -run TestOne ./e2e/fuzz -args -seed 7 -pod 4711   # prints that pod and its twin
package fuzz
