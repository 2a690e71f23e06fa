package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"
	"sigs.k8s.io/yaml"
)

// Values of --output.
const (
	formatJSON = "json"
	formatYAML = "yaml"
	formatWide = "wide"
)

// terminal is where a command writes: out for what it was asked for, err for errors (and, with -o json or yaml, for
// the steps on the way there).
type terminal struct {
	out, err io.Writer
}

// checkFormat refuses a value of --output that is not among known.
func checkFormat(format string, known ...string) error {
	if format == "" || slices.Contains(known, format) {
		return nil
	}
	return usagef("Use "+strings.Join(known, ", ")+".", "--output %q is not known", format)
}

// printObject writes value as JSON or YAML.
func printObject(w io.Writer, format string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	if format == formatYAML {
		if data, err = yaml.JSONToYAML(data); err != nil {
			return fmt.Errorf("encode result: %w", err)
		}
	}
	_, err = fmt.Fprintln(w, strings.TrimRight(string(data), "\n"))
	return err
}

// style writes with colours on terminals, plainly elsewhere.
type style struct {
	tty bool
	fd  int // of the terminal
}

// styleFor is the style that fits w.
func styleFor(w io.Writer) style {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) || os.Getenv("TERM") == "dumb" {
		return style{}
	}
	return style{tty: true, fd: int(file.Fd())}
}

// fit cuts what is to be taken back again: of what fills more than one line of a terminal only the last can be.
func (s style) fit(text string) string {
	width, _, err := term.GetSize(s.fd)
	if err != nil {
		return text
	}
	return cut(text, width-1)
}

// cut leaves at most this many characters of text.
func cut(text string, most int) string {
	letters := []rune(text)
	if most < 1 || len(letters) <= most {
		return text
	}
	return string(letters[:most-1]) + "…"
}

func (s style) paint(code, text string) string {
	if !s.tty || os.Getenv("NO_COLOR") != "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) good(text string) string { return s.paint("32", text) }
func (s style) bad(text string) string  { return s.paint("31", text) }
func (s style) dim(text string) string  { return s.paint("2", text) }

// step is one thing that a command did, or could not do.
type step struct {
	Name    string  `json:"name"`
	OK      bool    `json:"ok"`
	Result  string  `json:"result,omitempty"`
	Seconds float64 `json:"seconds"`
}

// steps shows what a command does while it does it, and remembers it. Not safe for concurrent use.
type steps struct {
	w       io.Writer
	style   style
	done    []step
	started time.Time // of the command
	last    time.Time // end of the step before
	shown   time.Time // of the last progress line
	changed bool      // something was written to a cluster
}

// newSteps shows steps on stdout, or on stderr when stdout is for a machine.
func newSteps(t terminal, format string) *steps {
	w := t.out
	if format == formatJSON || format == formatYAML {
		w = t.err
	}
	now := time.Now()
	return &steps{w: w, style: styleFor(w), started: now, last: now}
}

// headline writes a line that is no step.
func (s *steps) headline(format string, args ...any) {
	s.clear()
	fmt.Fprintf(s.w, format+"\n", args...)
}

// run does one step. Its name is a claim ("both API servers answer"), the result says more ("created").
func (s *steps) run(name string, do func() (result string, err error)) error {
	s.current(name)
	result, err := do()
	if err != nil {
		s.failed(name)
		return err
	}
	s.ok(name, result)
	return nil
}

func (s *steps) ok(name, result string) { s.end(step{Name: name, OK: true, Result: result}) }

func (s *steps) failed(name string) { s.end(step{Name: name}) }

func (s *steps) end(done step) {
	now := time.Now()
	took := now.Sub(s.last)
	s.last, s.shown = now, now // a step that is over at once needs no word on how far it is
	done.Seconds = seconds(took)
	s.done = append(s.done, done)
	mark := s.style.good("✓")
	if !done.OK {
		mark = s.style.bad("✗")
	}
	s.clear()
	if done.Result != "" {
		done.Result += " "
	}
	fmt.Fprintf(s.w, "%s %-42s %s%s\n", mark, done.Name, done.Result, s.style.dim("("+shortDuration(took)+")"))
}

// note says something beside the steps.
func (s *steps) note(format string, args ...any) {
	s.clear()
	fmt.Fprintf(s.w, "  "+format+"\n", args...)
}

// current shows on a terminal what is being done right now.
func (s *steps) current(text string) {
	if s.style.tty {
		s.clear()
		fmt.Fprint(s.w, s.style.dim(s.style.fit("… "+text)))
	}
}

// progress shows how far the current step is: always on a terminal, elsewhere at most once a second.
func (s *steps) progress(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if s.style.tty {
		s.current(text)
		return
	}
	if now := time.Now(); now.Sub(s.shown) >= time.Second {
		s.shown = now
		fmt.Fprintf(s.w, "… %s\n", text)
	}
}

// clear removes the line of current or progress.
func (s *steps) clear() {
	if s.style.tty {
		fmt.Fprint(s.w, "\r\x1b[K")
	}
}

// took is the time since the command began.
func (s *steps) took() time.Duration { return time.Since(s.started) }

// whatChanged ends an error's text: people must know in which state it left their clusters.
func (s *steps) whatChanged() string {
	if s.changed {
		return "What was done so far stays; the same command goes on from there."
	}
	return "Nothing was changed."
}

// seconds rounds to milliseconds.
func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

// shortDuration is for people: 12 ms, 3.4 s.
func shortDuration(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// orDash stands in for what is empty.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// plural counts things: 1 pod, 2 pods.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
