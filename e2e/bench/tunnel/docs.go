package main

import (
	"fmt"
	"os"
	"strings"
)

// docsPath is where the last good run is kept, relative to the root of the checkout.
const docsPath = "docs/benchmarks.md"

// The lines between which the report goes.
const (
	docsBegin = "<!-- bench-tunnel: begin -->"
	docsEnd   = "<!-- bench-tunnel: end -->"
)

// updateDocs puts the report into the page.
func updateDocs(path, report string) error {
	page, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the page (run from the root of the checkout): %w", err)
	}
	page, err = replaceBlock(page, report)
	if err != nil {
		return fmt.Errorf("update %s: %w", path, err)
	}
	if err := os.WriteFile(path, page, 0o644); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// replaceBlock replaces what is between the two marks.
func replaceBlock(page []byte, report string) ([]byte, error) {
	before, rest, ok := strings.Cut(string(page), docsBegin)
	_, after, ok2 := strings.Cut(rest, docsEnd)
	if !ok || !ok2 {
		return nil, fmt.Errorf("the marks %s and %s are not there", docsBegin, docsEnd)
	}
	return []byte(before + docsBegin + "\n```\n" + strings.TrimRight(report, "\n") + "\n```\n" + docsEnd + after), nil
}
