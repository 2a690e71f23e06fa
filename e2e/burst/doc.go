// Package burst holds the promises about overflowing, coming home, staged migration and drained peers as tests on real nodes: two
// clusters that the tunnel joins, pods that are processes, and requests through Services while pods move.
//
// It is tests only. They share one lab, which the first test starts; root only. The tests that kill spillwayd, and those of bad input,
// are in package scenario: simulated nodes do for these.
//
//	go test -v -run TestStagedMigration ./e2e/burst
package burst
