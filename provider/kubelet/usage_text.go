package kubelet

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
)

// maxLine bounds one line of text, maxText what a page may keep of one scrape: its offsets are 32 bits wide.
const (
	maxLine = 1 << 20
	maxText = 1 << 31
)

// podName is a pod's namespace and name.
type podName struct{ namespace, name string }

// page is one scrape of a peer in the text format of Prometheus, indexed by pod, so that a node's share is found without looking
// at the rest. Label blocks are kept once: cAdvisor repeats the one of a container for each of its figures, and it is most of
// the text. A page does not change once read.
type page struct {
	families []family
	samples  []sample
	lines    []line
	blocks   []block
	tails    []byte // what follows the label blocks, one after the other
	pods     map[podName]int32
	chains   []chain // by number of the pod
	unread   int     // lines that are not in the text format
}

// family is what HELP and TYPE say, as scraped with their newlines. Rank is its place among the families sorted by name.
type family struct {
	name       string
	help, kind string
	rank       uint32
}

// sample is a name before a label block. A histogram's family has several.
type sample struct {
	name   string
	family int32
	figure figure
}

// line is one line with a pod: next is that of the same pod, -1 at the end.
type line struct {
	sample, block, next int32
	tail, tailEnd       uint32
}

// block is a label block with its braces, as scraped.
type block struct {
	text string
	pod  int32 // number of the pod; -1: it has none
	last int32 // newest line with it, -1 before the first
	// Where the value of namespace lies, and where in the value of id the pod's UID begins, 0 for nowhere.
	namespace, namespaceEnd, uid int32
}

// chain is the first and last line of a pod.
type chain struct{ first, last int32 }

// tail is what follows the label block of line i: a blank, the value, and perhaps a blank and the timestamp.
func (p *page) tail(i int32) []byte { return p.tails[p.lines[i].tail:p.lines[i].tailEnd] }

// first is the first line of a pod, -1 if it has none.
func (p *page) first(pod podName) int32 {
	if number, ok := p.pods[pod]; ok {
		return p.chains[number].first
	}
	return -1
}

// pageReader is what is needed only while a page is read.
type pageReader struct {
	*page
	familyOf map[string]int32
	sampleOf map[string]int32
	blockOf  map[string]int32
	family   int32 // of the last HELP or TYPE, -1 before the first
}

// readPage reads the text format as kubelets write it (version 0.0.4). Lines without a pod are left out, lines that are not of the
// format are counted: one new thing that a kubelet prints must not cost the rest.
func readPage(r io.Reader) (*page, error) {
	in := &pageReader{
		page:     &page{pods: map[podName]int32{}},
		familyOf: map[string]int32{}, sampleOf: map[string]int32{}, blockOf: map[string]int32{}, family: -1,
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for lines.Scan() {
		if !in.add(lines.Bytes()) {
			in.unread++
		}
		if len(in.tails) > maxText {
			return nil, fmt.Errorf("more than %d bytes of figures", maxText)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	in.rank()
	return in.page, nil
}

// add takes one line; false when it is not in the text format.
func (in *pageReader) add(text []byte) bool {
	if len(text) == 0 {
		return true
	}
	if text[0] == '#' {
		in.comment(text)
		return true
	}
	open := bytes.IndexByte(text, '{')
	if open < 0 {
		return true // no labels, so no pod
	}
	end := blockEnd(text[open:])
	if open == 0 || end < 0 {
		return false
	}
	end += open
	number, ok := in.block(text[open:end])
	if !ok {
		return false
	}
	if in.blocks[number].pod < 0 {
		return true
	}
	if sample := in.sample(text[:open]); in.samples[sample].figure != figureNode {
		in.keep(sample, number, text[end:])
	}
	return true
}

// keep adds a line to those of its pod. A series that is there already is kept once, as it is newest: while a pod is made anew on
// another machine, both tell of it.
func (in *pageReader) keep(sample, number int32, tail []byte) {
	b := &in.blocks[number]
	if b.last >= 0 && in.lines[b.last].sample == sample {
		if newer(tail, in.tail(b.last)) {
			in.lines[b.last].tail, in.lines[b.last].tailEnd = in.put(tail)
		}
		return
	}
	here := int32(len(in.lines))
	l := line{sample: sample, block: number, next: -1}
	l.tail, l.tailEnd = in.put(tail)
	in.lines = append(in.lines, l)
	c := &in.chains[b.pod]
	if c.first < 0 {
		c.first = here
	} else {
		in.lines[c.last].next = here
	}
	c.last, b.last = here, here
}

// put keeps a tail and says where.
func (in *pageReader) put(tail []byte) (from, to uint32) {
	from = uint32(len(in.tails))
	in.tails = append(in.tails, tail...)
	return from, uint32(len(in.tails))
}

// newer says whether one tail of a series is newer than another: by time, or else by value, which of a start is its time.
func newer(one, other []byte) bool {
	value, millis, ok := readTail(one)
	before, millisBefore, okBefore := readTail(other)
	return ok && (!okBefore || millis > millisBefore || millis == millisBefore && value > before)
}

// comment takes a line of HELP or TYPE; the first of each family counts.
func (in *pageReader) comment(text []byte) {
	help, isHelp := bytes.CutPrefix(text, []byte("# HELP "))
	kind, isKind := bytes.CutPrefix(text, []byte("# TYPE "))
	if !isHelp && !isKind {
		return
	}
	name := help
	if isKind {
		name = kind
	}
	name, _, _ = bytes.Cut(name, []byte(" "))
	in.family = in.familyNamed(string(name))
	f := &in.families[in.family]
	switch {
	case isHelp && f.help == "":
		f.help = string(text) + "\n"
	case isKind && f.kind == "":
		f.kind = string(text) + "\n"
	}
}

func (in *pageReader) familyNamed(name string) int32 {
	number, ok := in.familyOf[name]
	if !ok {
		number = int32(len(in.families))
		in.families = append(in.families, family{name: name})
		in.familyOf[name] = number
	}
	return number
}

// sample finds the number of a sample's name.
func (in *pageReader) sample(name []byte) int32 {
	if number, ok := in.sampleOf[string(name)]; ok {
		return number
	}
	s := sample{name: string(name), figure: figureNamed(string(name)), family: in.family}
	if s.family < 0 || !belongs(s.name, in.families[s.family].name) {
		s.family = in.familyNamed(s.name)
	}
	number := int32(len(in.samples))
	in.samples = append(in.samples, s)
	in.sampleOf[s.name] = number
	return number
}

// belongs says whether a sample is of the family last spoken of: histograms and summaries have samples of several names.
func belongs(sample, family string) bool {
	suffix, ok := strings.CutPrefix(sample, family)
	return ok && (suffix == "" || suffix == "_bucket" || suffix == "_sum" || suffix == "_count")
}

// block finds the number of a label block; false when it is not one.
func (in *pageReader) block(text []byte) (int32, bool) {
	if number, ok := in.blockOf[string(text)]; ok {
		return number, true
	}
	b, pod, ok := readBlock(string(text))
	if !ok {
		return 0, false
	}
	b.pod, b.last = -1, -1
	if pod.namespace != "" && pod.name != "" {
		b.pod = in.podNumber(pod)
	}
	number := int32(len(in.blocks))
	in.blocks = append(in.blocks, b)
	in.blockOf[b.text] = number
	return number, true
}

func (in *pageReader) podNumber(pod podName) int32 {
	number, ok := in.pods[pod]
	if !ok {
		number = int32(len(in.chains))
		in.chains = append(in.chains, chain{first: -1})
		in.pods[pod] = number
	}
	return number
}

// rank sorts the families by name, as a registry prints them.
func (in *pageReader) rank() {
	order := make([]int, len(in.families))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(in.families[a].name, in.families[b].name) })
	for rank, i := range order {
		in.families[i].rank = uint32(rank)
	}
}
