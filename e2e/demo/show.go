package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
)

// show tells people what happens, step by step. With colours on a terminal only.
type show struct {
	w       io.Writer
	colours bool
	start   time.Time
	step    int
	began   time.Time // of the step
}

func newShow(w *os.File) *show {
	colours := term.IsTerminal(int(w.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return &show{w: w, colours: colours, start: time.Now()}
}

func (s *show) paint(code, text string) string {
	if !s.colours {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s *show) good(text string) string   { return s.paint("32", text) }
func (s *show) bad(text string) string    { return s.paint("31", text) }
func (s *show) strong(text string) string { return s.paint("1", text) }
func (s *show) dim(text string) string    { return s.paint("2", text) }

func (s *show) took() time.Duration { return time.Since(s.start) }

func (s *show) plain(format string, args ...any) { fmt.Fprintf(s.w, format+"\n", args...) }

// heading begins a step: what is done, and why.
func (s *show) heading(title, why string) {
	s.step++
	s.began = time.Now()
	s.plain("\n%s", s.strong(fmt.Sprintf("%d. %s", s.step, title)))
	for line := range strings.Lines(why) {
		s.plain("   %s", strings.TrimRight(line, "\n"))
	}
}

// ok says what has come true, with the time since the step began.
func (s *show) ok(format string, args ...any) {
	s.plain("   %s %s %s", s.good("✓"), fmt.Sprintf(format, args...), s.dim("("+seconds(time.Since(s.began))+")"))
}

func (s *show) failed(err error) {
	s.plain("\n   %s %s", s.bad("✗"), err)
}

// command shows what is typed.
func (s *show) command(words []string) {
	s.plain("   %s", s.strong("$ "+strings.Join(words, " ")))
}

// table shows columns; cells are separated by tabs.
func (s *show) table(rows []string) {
	w := tabwriter.NewWriter(s.w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintf(w, "   %s\n", row)
	}
	_ = w.Flush() // as for any line: nobody could be told
}

// output is a writer that shows each line of a program, dimmed and moved in. Close it to show the last line.
func (s *show) output() *lines {
	return &lines{each: func(line string) { s.plain("   %s", s.dim("│ "+line)) }}
}

// lines hands on what is written line by line. Safe for concurrent use.
type lines struct {
	each func(string)

	mu   sync.Mutex // guards rest
	rest []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.each(string(line))
		l.rest = bytes.Clone(rest)
	}
}

func (l *lines) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.rest) > 0 {
		l.each(string(l.rest))
	}
	l.rest = nil
}

// seconds writes a time for people.
func seconds(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
}
