// Package quickstart runs docs/quickstart.md: the commands of its way through the lab, as they stand there, on real nodes, and looks
// whether they print what the page shows beside them.
//
// It is tests only; root only. It knows how the page is written and nothing of what the commands do.
//
//	go test -v -run TestQuickstart ./e2e/quickstart
package quickstart
