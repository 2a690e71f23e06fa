package quickstart

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// step is a block of commands of the page.
type step struct {
	line   int    // of the page, where it begins
	script string // the commands
	want   string // what the page shows that they print; empty: nothing
}

// steps are the blocks that begin with "```sh lab", each with the "```text" block that follows it.
func steps(page string) ([]step, error) {
	var out []step
	var block []string
	fence, last := "", "" // what the open and the closed block before are
	for i, line := range strings.Split(page, "\n") {
		info, isFence := strings.CutPrefix(line, "```")
		switch {
		case fence == "" && isFence:
			fence, block = "```"+info, nil
			if info == "sh lab" {
				out = append(out, step{line: i + 1})
			}
		case fence != "" && isFence:
			text := strings.Join(block, "\n")
			switch {
			case fence == "```sh lab":
				out[len(out)-1].script = text
			case fence == "```text" && last == "```sh lab":
				out[len(out)-1].want = text
			}
			fence, last = "", fence
		case fence != "":
			block = append(block, line)
		}
	}
	if fence != "" {
		return nil, fmt.Errorf("the last block is not closed")
	}
	return out, nil
}

// missing is the first line of want that got does not have after those before; empty when all are there, in their order. In a line
// … stands for anything, and all white space is alike. Lines of got that want does not show are passed over.
func missing(want, got string) string {
	lines := strings.Split(got, "\n")
	for _, wanted := range strings.Split(want, "\n") {
		wanted = strings.Join(strings.Fields(wanted), " ")
		if strings.Trim(wanted, "… ") == "" {
			continue
		}
		parts := strings.Split(wanted, "…")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(strings.TrimSpace(parts[i]))
		}
		pattern := regexp.MustCompile("^ ?" + strings.Join(parts, ".*") + " ?$")
		at := slices.IndexFunc(lines, func(line string) bool { return pattern.MatchString(strings.Join(strings.Fields(line), " ")) })
		if at < 0 {
			return wanted
		}
		lines = lines[at+1:]
	}
	return ""
}

func TestSteps(t *testing.T) {
	const page = "# A\n\n```sh\nnot this\n```\n\n```sh lab\nfirst\nsecond\n```\n\nIt says\n\n```text\nall\n```\n\n```sh lab\nthird\n```\n\n```yaml\na: b\n```\n\n```text\nnot its\n```\n"
	got, err := steps(page)
	if err != nil {
		t.Fatal(err)
	}
	want := []step{{7, "first\nsecond", "all"}, {18, "third", ""}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, err := steps("```sh lab\nfirst\n"); err == nil {
		t.Error("a block that does not end was taken")
	}
}

func TestMissing(t *testing.T) {
	const got = "NAME    READY   NODE\nweb-1   1/1     spillway-cloud\nweb-2   0/1     spillway-cloud\ndone\n"
	for name, row := range map[string]struct{ want, missing string }{
		"as it is":          {got, ""},
		"lines in between":  {"NAME READY NODE\ndone", ""},
		"any name":          {"web-… 1/1 spillway-cloud", ""},
		"another order":     {"done\nNAME READY NODE", "NAME READY NODE"},
		"each line once":    {"web-… 1/1 …\nweb-… 1/1 …", "web-… 1/1 …"},
		"part of a line":    {"web-1 1/1", "web-1 1/1"},
		"only dots":         {"…\n\ndone", ""},
		"characters are it": {"w.b-1 1/1 spillway-cloud", "w.b-1 1/1 spillway-cloud"},
	} {
		t.Run(name, func(t *testing.T) {
			if m := missing(row.want, got); m != row.missing {
				t.Errorf("missing %q, want %q", m, row.missing)
			}
		})
	}
}
