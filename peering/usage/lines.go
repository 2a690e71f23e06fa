package usage

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
)

// longestLine bounds a line of a kubelet's answer. Lines with many labels have about 1 KiB.
const longestLine = 1 << 20

// blockSize is by how much a page grows: one that doubled would be moved again and again, and be half empty in the end.
const blockSize = 32 << 10

// page is what was kept of one kubelet's text: lines of some namespaces, byte for byte, in the order of the kubelet.
type page struct {
	blocks     [][]byte // of whole lines, each with its line break
	families   []family
	namespaces []string // that pieces point into
}

// family is one metric of a page.
type family struct {
	name       string
	help, kind []byte // the lines # HELP and # TYPE
	typed      string // what # TYPE says
	pieces     []piece
}

// piece is a run of lines about one namespace: blocks[block][from:to].
type piece struct{ block, from, to, namespace uint32 }

func (p *page) lines(at piece) []byte { return p.blocks[at.block][at.from:at.to] }

// reader keeps lines of a text exposition (format 0.0.4).
type reader struct {
	page
	wanted  map[string]uint32 // namespaces, and where they are in page.namespaces
	known   map[string]int    // families
	current int               // family of the last line; -1: none
	kept    int               // bytes
}

// readPage keeps the lines with a label namespace of the wanted ones. Lines that cannot be read, and families without a line that is
// kept, are left out: nobody may see a line that is not certain to be theirs.
func readPage(from io.Reader, wanted map[string]bool) (*page, error) {
	r := &reader{wanted: make(map[string]uint32, len(wanted)), known: map[string]int{}, current: -1}
	for name := range wanted {
		r.wanted[name] = uint32(len(r.namespaces))
		r.namespaces = append(r.namespaces, name)
	}
	lines := bufio.NewScanner(from)
	lines.Buffer(make([]byte, 0, 64<<10), longestLine)
	for lines.Scan() {
		if line := lines.Bytes(); len(line) > 0 && line[0] == '#' {
			r.comment(line)
		} else if len(line) > 0 {
			r.sample(line)
		}
		if r.kept > mostText {
			return nil, fmt.Errorf("more than %d MiB about tenants' pods", mostText>>20)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return &r.page, nil
}

// comment takes # HELP and # TYPE; others are for people.
func (r *reader) comment(line []byte) {
	keyword, rest := word(trimBlank(line[1:]))
	isType := string(keyword) == "TYPE"
	if !isType && string(keyword) != "HELP" {
		return
	}
	name, rest := word(trimBlank(rest))
	if len(name) == 0 || name[0] == '"' {
		r.current = -1
		return
	}
	r.enter(name)
	f := &r.families[r.current]
	switch {
	case len(f.pieces) > 0: // too late
	case isType && f.kind == nil:
		f.kind, f.typed = withBreak(line), string(bytes.TrimSpace(rest))
	case !isType && f.help == nil:
		f.help = withBreak(line)
	}
}

func withBreak(line []byte) []byte {
	return append(append(make([]byte, 0, len(line)+1), line...), '\n')
}

// enter makes the family of that name the current one.
func (r *reader) enter(name []byte) {
	if r.current >= 0 && r.families[r.current].name == string(name) {
		return
	}
	i, ok := r.known[string(name)]
	if !ok {
		i = len(r.families)
		r.families = append(r.families, family{name: string(name)})
		r.known[r.families[i].name] = i
	}
	r.current = i
}

// sample keeps a line if it is about a wanted namespace.
func (r *reader) sample(line []byte) {
	name, namespace, ok := parse(line)
	if !ok {
		return
	}
	at, ok := r.wanted[string(namespace)]
	if !ok {
		return
	}
	if r.current < 0 || !belongs(name, r.families[r.current]) {
		r.enter(name)
	}
	now := r.keep(line)
	now.namespace = at
	f := &r.families[r.current]
	if n := len(f.pieces); n > 0 && f.pieces[n-1].continues(now) {
		f.pieces[n-1].to = now.to
		return
	}
	f.pieces = append(f.pieces, now)
}

// keep copies a line.
func (r *reader) keep(line []byte) piece {
	last := len(r.blocks) - 1
	if last < 0 || cap(r.blocks[last])-len(r.blocks[last]) <= len(line) {
		r.blocks = append(r.blocks, make([]byte, 0, max(blockSize, len(line)+1)))
		last++
	}
	from := len(r.blocks[last])
	r.blocks[last] = append(append(r.blocks[last], line...), '\n')
	r.kept += len(line) + 1
	return piece{block: uint32(last), from: uint32(from), to: uint32(from + len(line) + 1)}
}

// continues says whether the next piece begins where this one ends, about the same.
func (p piece) continues(next piece) bool {
	return p.namespace == next.namespace && p.block == next.block && p.to == next.from
}

// belongs says whether a sample is of a family: histograms and summaries have samples of several names.
func belongs(sample []byte, f family) bool {
	if len(sample) < len(f.name) || string(sample[:len(f.name)]) != f.name {
		return false
	}
	switch string(sample[len(f.name):]) {
	case "":
		return true
	case "_sum", "_count":
		return f.typed == "histogram" || f.typed == "summary"
	case "_bucket":
		return f.typed == "histogram"
	}
	return false
}

// parse finds a sample's name and its label namespace, as it is written. False: it has none, or two, or is no sample. No name of a
// namespace needs an escape, so the value is not unescaped: one with a backslash is nobody's.
func parse(line []byte) (name, namespace []byte, ok bool) {
	line = trimBlank(line)
	open := bytes.IndexByte(line, '{')
	if open <= 0 {
		return nil, nil, false
	}
	name = bytes.TrimRight(line[:open], " \t")
	if !isName(name) {
		return nil, nil, false
	}
	for rest := line[open+1:]; ; {
		rest = trimBlank(rest)
		if len(rest) > 0 && rest[0] == '}' {
			return name, namespace, ok && len(trimBlank(rest[1:])) > 0
		}
		equals := bytes.IndexByte(rest, '=')
		if equals < 0 {
			return nil, nil, false
		}
		label := bytes.TrimRight(rest[:equals], " \t")
		value, after, quoted := quotation(trimBlank(rest[equals+1:]))
		if !quoted || !isName(label) {
			return nil, nil, false
		}
		if string(label) == "namespace" {
			if ok {
				return nil, nil, false
			}
			namespace, ok = value, true
		}
		after = trimBlank(after)
		switch {
		case len(after) > 0 && after[0] == ',':
			after = after[1:]
		case len(after) == 0 || after[0] != '}':
			return nil, nil, false
		}
		rest = after
	}
}

// quotation splits text, which begins with a quotation mark, behind the one that closes.
func quotation(text []byte) (inside, after []byte, ok bool) {
	if len(text) == 0 || text[0] != '"' {
		return nil, nil, false
	}
	for from := 1; ; {
		end := bytes.IndexByte(text[from:], '"')
		if end < 0 {
			return nil, nil, false
		}
		end += from
		escapes := end
		for text[escapes-1] == '\\' {
			escapes--
		}
		if (end-escapes)%2 == 0 {
			return text[1:end], text[end+1:], true
		}
		from = end + 1
	}
}

// isName says whether text is a name without quotation marks: of a metric, or of a label.
func isName(text []byte) bool {
	for i, c := range text {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == ':'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return len(text) > 0
}

// word splits text at its first blank.
func word(text []byte) (first, rest []byte) {
	if i := bytes.IndexAny(text, " \t"); i >= 0 {
		return text[:i], text[i:]
	}
	return text, nil
}

// trimBlank drops the blanks in front.
func trimBlank(text []byte) []byte {
	for len(text) > 0 && (text[0] == ' ' || text[0] == '\t') {
		text = text[1:]
	}
	return text
}
