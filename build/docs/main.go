// Command docs writes the pages, and parts of pages, that say what the programs, the kinds and the chart say of themselves.
//
//	go run ./build/docs            write them
//	go run ./build/docs -check     only say which are not as they would be written
//
// It runs in the root of the module. It knows how such a page looks, and nothing of what the things on it do.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/spillway-dev/spillway/charts"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	check := flag.Bool("check", false, "write nothing; fail when a page is not as it would be written")
	flag.Parse()
	err := run(ctx, *check)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "docs:", err)
		os.Exit(1)
	}
}

// page is a file below docs and how its text is made from the one that is there.
type page struct {
	name string
	make func(ctx context.Context, old string) (string, error)
}

func pages() []page {
	return []page{
		{"commands.md", func(ctx context.Context, _ string) (string, error) { return commandsPage(ctx) }},
		{"fields.md", func(context.Context, string) (string, error) { return fieldsPage(charts.Spillway()) }},
		{"security.md", func(_ context.Context, old string) (string, error) { return securityPage(old) }},
	}
}

func run(ctx context.Context, check bool) error {
	var stale []string
	for _, p := range pages() {
		path := filepath.Join("docs", p.name)
		old, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		text, err := p.make(ctx, string(old))
		if err != nil {
			return fmt.Errorf("make %s: %w", path, err)
		}
		if bytes.Equal(old, []byte(text)) {
			continue
		}
		if check {
			stale = append(stale, path+": "+firstDifference(string(old), text))
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if len(stale) > 0 {
		return fmt.Errorf("these pages do not belong to the code: run make generate and commit the result\n%s", strings.Join(stale, "\n"))
	}
	return nil
}

// firstDifference says where two texts part.
func firstDifference(old, text string) string {
	was, is := strings.Split(old, "\n"), strings.Split(text, "\n")
	for i := 0; i < max(len(was), len(is)); i++ {
		if a, b := at(was, i), at(is, i); a != b {
			return fmt.Sprintf("line %d is %q, would be %q", i+1, a, b)
		}
	}
	return "no difference"
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}

// between puts text between the lines <!-- name: begin --> and <!-- name: end --> of a page.
func between(page, name, text string) (string, error) {
	begin, end := "<!-- "+name+": begin -->\n", "<!-- "+name+": end -->"
	head, rest, found := strings.Cut(page, begin)
	_, tail, closed := strings.Cut(rest, end)
	if !found || !closed {
		return "", fmt.Errorf("there is no part %s...%s", strings.TrimSpace(begin), end)
	}
	return head + begin + strings.TrimRight(text, "\n") + "\n" + end + tail, nil
}
