package usage

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/proto"
)

// filtered is what a tenant with some namespaces is told of some kubelets' pages.
func filtered(t testing.TB, wanted map[string]bool, texts ...string) string {
	t.Helper()
	var pages []*page
	for _, text := range texts {
		p, err := readPage(strings.NewReader(text), wanted)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, p)
	}
	var out bytes.Buffer
	if err := writeText(&out, pages, wanted); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func set(names ...string) map[string]bool {
	out := map[string]bool{}
	for _, name := range names {
		out[name] = true
	}
	return out
}

// TestText_Golden: figures and times stay as a kubelet writes them.
func TestText_Golden(t *testing.T) {
	one := `# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="app",namespace="kube-system",pod="dns"} 7 1700000000001
container_cpu_usage_seconds_total{container="app",namespace="shop-1",pod="web"} 1.050000e+02 1700000000002
container_cpu_usage_seconds_total{container="b",namespace="shop-1",pod="web"} 0.1
# HELP machine_cpu_cores Number
# TYPE machine_cpu_cores gauge
machine_cpu_cores{boot_id="x"} 4
# HELP node_cpu_usage_seconds_total c
# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total 4732.33 1700000000003
# HELP wait_seconds h
# TYPE wait_seconds histogram
wait_seconds_bucket{namespace="shop-1",le="+Inf"} 2
wait_seconds_sum{namespace="shop-1"} 2.5
wait_seconds_count{namespace="shop-1"} 2
`
	two := `# HELP a_first x
# TYPE a_first gauge
a_first{namespace="blog-1"} NaN
# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="app",namespace="blog-1",pod="b"} 1e-07 1700000000009
container_cpu_usage_seconds_total{container="app",namespace="shop-1",pod="web2"} 3 1700000000010
`
	want := `# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="app",namespace="shop-1",pod="web"} 1.050000e+02 1700000000002
container_cpu_usage_seconds_total{container="b",namespace="shop-1",pod="web"} 0.1
container_cpu_usage_seconds_total{container="app",namespace="shop-1",pod="web2"} 3 1700000000010
# HELP wait_seconds h
# TYPE wait_seconds histogram
wait_seconds_bucket{namespace="shop-1",le="+Inf"} 2
wait_seconds_sum{namespace="shop-1"} 2.5
wait_seconds_count{namespace="shop-1"} 2
`
	if diff := cmp.Diff(want, filtered(t, set("shop-1"), one, two)); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// TestText_Long: a page of many blocks is told whole.
func TestText_Long(t *testing.T) {
	text := kubeletPage(10, 100)
	if got := filtered(t, set("shop-0", "shop-1", "shop-2", "shop-3"), text); got != text {
		t.Errorf("of a page of %d bytes %d are told", len(text), len(got))
	}
	var own strings.Builder
	for line := range strings.Lines(text) {
		if line[0] == '#' || strings.Contains(line, `namespace="shop-2"`) {
			own.WriteString(line)
		}
	}
	if got := filtered(t, set("shop-2"), text); got != own.String() {
		t.Errorf("of %d bytes of a tenant's %d are told", own.Len(), len(got))
	}
	if _, err := readPage(strings.NewReader(`a{b="`+strings.Repeat("x", longestLine)+`",namespace="shop-1"} 1`), set("shop-1")); err == nil {
		t.Error("a line without end is read")
	}
}

func TestParse(t *testing.T) {
	for name, row := range map[string]struct {
		line string
		want string // namespace; "-": not a line that counts
	}{
		"plain":                          {`a{namespace="x"} 1`, "x"},
		"last of several":                {`a{b="c",namespace="x"} 1 2`, "x"},
		"blanks and a comma at the end":  {"  a { b = \"c\" ,\tnamespace = \"x\" , } 1", "x"},
		"a quotation in another value":   {`a{b="\",namespace=\"y",namespace="x"} 1`, "x"},
		"a backslash before the end":     {`a{b="\\",namespace="x"} 1`, "x"},
		"a brace in a value":             {`a{b="}",namespace="x"} 1`, "x"},
		"only inside of another value":   {`a{b="namespace=\"x\""} 1`, "-"},
		"part of another label's name":   {`a{exported_namespace="x"} 1`, "-"},
		"none":                           {`a 1`, "-"},
		"twice":                          {`a{namespace="x",namespace="y"} 1`, "-"},
		"no end":                         {`a{namespace="x`, "-"},
		"no brace at the end":            {`a{namespace="x" 1`, "-"},
		"no value":                       {`a{namespace="x"}`, "-"},
		"no comma":                       {`a{b="c" namespace="x"} 1`, "-"},
		"a quoted name":                  {`{"a",namespace="x"} 1`, "-"},
		"a quoted label":                 {`a{"b"="c",namespace="x"} 1`, "-"},
		"an escape, as in nobody's name": {`a{namespace="x\n"} 1`, `x\n`},
	} {
		t.Run(name, func(t *testing.T) {
			_, namespace, ok := parse([]byte(row.line))
			if got := string(namespace); ok != (row.want != "-") || ok && got != row.want {
				t.Errorf("namespace %q, %v; want %q", got, ok, row.want)
			}
		})
	}
}

// TestText_LikeExpfmt: whatever kubelets print, the answer reads as theirs does, less what is others'.
func TestText_LikeExpfmt(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		wanted, want := set("shop-1", "blog-1"), map[string][]string{}
		var texts []string
		for node := range 1 + r.IntN(3) {
			families := randomFamilies(r, node)
			var text bytes.Buffer
			for _, f := range families {
				if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
					t.Fatal(err)
				}
			}
			texts = append(texts, text.String())
			collect(t, want, text.String(), wanted)
		}
		got := map[string][]string{}
		answer := filtered(t, wanted, texts...)
		collect(t, got, answer, nil)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d (-want +got):\n%s\nof\n%s", seed, diff, answer)
		}
		if again := filtered(t, wanted, answer); again != answer {
			t.Fatalf("seed %d: the answer changes when it is filtered again:\n%s", seed, cmp.Diff(answer, again))
		}
	}
}

// collect files the metrics of a text, of all namespaces or the wanted ones, under the family's name, type and help.
func collect(t *testing.T, into map[string][]string, text string, wanted map[string]bool) {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	for name, f := range families {
		for _, m := range f.Metric {
			if wanted != nil && !wanted[namespaceOf(m)] {
				continue
			}
			key := fmt.Sprintf("%s %s %q", name, f.GetType(), f.GetHelp())
			into[key] = append(into[key], m.String())
		}
	}
}

func namespaceOf(m *dto.Metric) string {
	for _, l := range m.Label {
		if l.GetName() == "namespace" {
			return l.GetValue()
		}
	}
	return ""
}

func randomFamilies(r *rand.Rand, node int) []*dto.MetricFamily {
	var out []*dto.MetricFamily
	kinds := []dto.MetricType{dto.MetricType_COUNTER, dto.MetricType_GAUGE, dto.MetricType_HISTOGRAM, dto.MetricType_SUMMARY, dto.MetricType_UNTYPED}
	for i, kind := range kinds {
		if r.IntN(4) == 0 {
			continue
		}
		f := &dto.MetricFamily{Name: proto.String(fmt.Sprintf("family_%d", i)), Type: kind.Enum()}
		if i != 1 {
			f.Help = proto.String("what \\ it\nsays")
		}
		for m := range 1 + r.IntN(6) {
			f.Metric = append(f.Metric, randomMetric(r, kind, node*100+m))
		}
		out = append(out, f)
	}
	return out
}

func randomMetric(r *rand.Rand, kind dto.MetricType, id int) *dto.Metric {
	odd := []string{"", "x", `"`, `\`, "\n", `",namespace="shop-1`, "{", "}", ",", "é", `\"`, "#"}
	value := func() *string {
		var b strings.Builder
		for range r.IntN(4) {
			b.WriteString(odd[r.IntN(len(odd))])
		}
		return proto.String(b.String())
	}
	m := &dto.Metric{Label: []*dto.LabelPair{
		{Name: proto.String("a"), Value: value()},
		{Name: proto.String("id"), Value: proto.String(fmt.Sprint(id))},
		{Name: proto.String("namespace"), Value: proto.String([]string{"shop-1", "blog-1", "other-1", "", "shop-1\n"}[r.IntN(5)])},
		{Name: proto.String("z"), Value: value()},
	}}
	if r.IntN(5) == 0 {
		m.Label = slices.Delete(m.Label, 2, 3)
	}
	v := proto.Float64(r.NormFloat64() * 1e6)
	switch kind {
	case dto.MetricType_COUNTER:
		m.Counter = &dto.Counter{Value: v}
	case dto.MetricType_GAUGE:
		m.Gauge = &dto.Gauge{Value: v}
	case dto.MetricType_UNTYPED:
		m.Untyped = &dto.Untyped{Value: v}
	case dto.MetricType_HISTOGRAM:
		m.Histogram = &dto.Histogram{SampleCount: proto.Uint64(3), SampleSum: v, Bucket: []*dto.Bucket{
			{UpperBound: proto.Float64(0.5), CumulativeCount: proto.Uint64(1)}, {UpperBound: proto.Float64(2), CumulativeCount: proto.Uint64(3)},
		}}
	case dto.MetricType_SUMMARY:
		m.Summary = &dto.Summary{SampleCount: proto.Uint64(3), SampleSum: v, Quantile: []*dto.Quantile{{Quantile: proto.Float64(0.5), Value: v}}}
	}
	if r.IntN(2) == 0 {
		m.TimestampMs = proto.Int64(1700000000000 + int64(r.IntN(1e9)))
	}
	return m
}

// FuzzParse: of any line that expfmt reads, the namespace is what expfmt says it is, or the line does not count.
func FuzzParse(f *testing.F) {
	for _, line := range []string{`a{b="\",namespace=\"y",namespace="x"} 1`, `a{namespace="x",} 1 5`, `{"a b",namespace="x"} 1`, `a{"namespace"="x"} 1`, "a\t{namespace=\"x\"}1"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if strings.ContainsAny(line, "\n\r") {
			return
		}
		_, got, ok := parse([]byte(line))
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(strings.NewReader(line + "\n"))
		if err != nil || !ok || strings.Contains(string(got), `\`) || strings.HasPrefix(strings.TrimSpace(line), "#") {
			return
		}
		for _, family := range families {
			for _, m := range family.Metric {
				if want := namespaceOf(m); want != string(got) {
					t.Errorf("namespace %q, expfmt says %q", got, want)
				}
			}
		}
	})
}

// kubeletPage looks like /metrics/cadvisor of a node with some pods, of which each has two containers.
func kubeletPage(families, pods int) string {
	var b strings.Builder
	for f := range families {
		fmt.Fprintf(&b, "# HELP container_figure_%02d_total Cumulative count of something that containers do\n# TYPE container_figure_%02d_total counter\n", f, f)
		for p := range pods {
			for _, c := range []string{"app", "POD", ""} {
				fmt.Fprintf(&b, `container_figure_%02d_total{container="%s",id="/kubepods/burstable/pod5f3c7a52-64a9-4d53-8b49-0d6e4b0f%04d/8a7d1f0c9b5e4d3c2b1a0f9e8d7c6b5a49382716150413020100ffeeddccbbaa",image="registry.example.org/team/app:v1.2.3",name="8a7d1f0c9b5e4d3c2b1a0f9e8d7c6b5a49382716150413020100ffeeddccbbaa",namespace="shop-%d",pod="web-7d9c5b8f6d-%04d"} 1.234567e+06 1700000000000`+"\n",
					f, c, p, p%4, p)
			}
		}
	}
	return b.String()
}

// BenchmarkReadPage is what one kubelet of 100 pods costs, of which a half are tenants'.
func BenchmarkReadPage(b *testing.B) {
	text, wanted := kubeletPage(60, 100), set("shop-1", "shop-2")
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := readPage(strings.NewReader(text), wanted); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAnswer is what one answer about 100 nodes of 100 pods costs, of which a quarter are the tenant's.
func BenchmarkAnswer(b *testing.B) {
	for name, families := range map[string]int{"resource": 4, "cadvisor": 60} {
		b.Run(name, func(b *testing.B) {
			one, err := readPage(strings.NewReader(kubeletPage(families, 100)), set("shop-1", "shop-2"))
			if err != nil {
				b.Fatal(err)
			}
			pages := slices.Repeat([]*page{one}, 100)
			for i := range pages {
				same := *one
				pages[i] = &same
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := writeText(new(discard), pages, set("shop-1")); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type discard struct{}

func (*discard) Write(p []byte) (int, error) { return len(p), nil }

// TestSummary: podRef is found wherever it is, and figures stay as they are written.
func TestSummary(t *testing.T) {
	pods, err := readSummary(strings.NewReader(`{"pods": [
		{"cpu": {"podRef": {"namespace": "shop-1"}}, "podRef": {"name": "a", "namespace": "other-1"}},
		{"cpu": {"usageNanoCores": 12345678901234567890, "x": [1.50, null]}, "podRef": {"name": "b", "namespace": "shop-1"}},
		{"podRef": {"name": "c", "namespace": "shop-1"}, "new": {"figure": 1e3}}, {}, null
	], "node": {"nodeName": "n"}}`), set("shop-1"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := writeSummary(&out, [][]podStats{pods, nil, pods[:1]}, set("shop-1")); err != nil {
		t.Fatal(err)
	}
	const b = `{"cpu":{"usageNanoCores":12345678901234567890,"x":[1.50,null]},"podRef":{"name":"b","namespace":"shop-1"}}`
	want := `{"node":{"nodeName":"","startTime":null},"pods":[` + b + `,{"podRef":{"name":"c","namespace":"shop-1"},"new":{"figure":1e3}},` + b + "]}\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	if _, err := readSummary(strings.NewReader(`{"pods": [{"podRef": `), nil); err == nil {
		t.Error("half an answer is read")
	}
}
