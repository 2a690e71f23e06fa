// Package scenario holds the promises of docs/verification.md as tests on real clusters: crashes, outages, refusals, bad
// input, write budgets.
//
// It is tests only. All of them share one lab of two clusters with simulated nodes, consumer east and provider west, each
// with a spillwayd that runs with the rights of the chart; the first test that needs it starts it. A test has a namespace
// of its own, peers the clusters if they are not, and leaves them usable. It waits for conditions and never for time.
//
//	go test -v -run TestForeignPod ./e2e/scenario
package scenario
