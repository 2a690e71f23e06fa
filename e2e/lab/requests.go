package lab

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// RequestKey says what kind of request was made.
type RequestKey struct {
	// Verb is get, list, watch, create, update, patch, apply (server-side),
	// delete, deletecollection or connect.
	Verb string `json:"verb"`
	// Group is the API group; empty for the core group.
	Group string `json:"group,omitempty"`
	// Resource in the plural; Subresource such as status.
	Resource    string `json:"resource"`
	Subresource string `json:"subresource,omitempty"`
	// Client is the program, from its user agent; empty unless Options.Audit.
	Client string `json:"client,omitempty"`
	// Code is the HTTP status.
	Code int `json:"code"`
}

// RequestCount is how many of one kind were made.
type RequestCount struct {
	RequestKey
	Count int64 `json:"count"`
}

// Write says whether a request of this kind writes.
func (k RequestKey) Write() bool {
	switch k.Verb {
	case "create", "update", "patch", "apply", "delete", "deletecollection":
		return true
	}
	return false
}

// Requests counts the requests to the cluster's API server, sorted, without
// those for other than API objects (health, discovery, metrics).
//
// Without Options.Audit they come from apiserver_request_total, which begins
// anew when the API server restarts. With it they come from the audit log and
// have a Client; there a server-side apply that does not force looks like a
// patch. A watch counts when it ends in the former and when it begins in the
// latter; see Watches for the open ones.
func (c *Cluster) Requests(ctx context.Context) ([]RequestCount, error) {
	if c.layout.audit {
		return c.audit.read(ctx, c)
	}
	text, err := c.metrics(ctx)
	if err != nil {
		return nil, err
	}
	counts, err := parseRequests(text)
	if err != nil {
		return nil, fmt.Errorf("read the metrics of the API server of %s: %w", c.Name(), err)
	}
	return counts, nil
}

// Watches counts the open watches by group and resource.
func (c *Cluster) Watches(ctx context.Context) ([]RequestCount, error) {
	text, err := c.metrics(ctx)
	if err != nil {
		return nil, err
	}
	counts := map[RequestKey]int64{}
	err = eachSample(text, "apiserver_longrunning_requests", func(l map[string]string, v float64) {
		if l["verb"] == "WATCH" && v > 0 {
			counts[RequestKey{Verb: "watch", Group: l["group"], Resource: l["resource"]}] += int64(v)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read the metrics of the API server of %s: %w", c.Name(), err)
	}
	return sortedCounts(counts), nil
}

func (c *Cluster) metrics(ctx context.Context) ([]byte, error) {
	text, err := c.client().Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("get the metrics of the API server of %s: %w", c.Name(), err)
	}
	return text, nil
}

// DiffRequests is what was requested between two calls of Requests.
func DiffRequests(before, after []RequestCount) []RequestCount {
	counts := map[RequestKey]int64{}
	for _, r := range after {
		counts[r.RequestKey] += r.Count
	}
	for _, r := range before {
		counts[r.RequestKey] -= r.Count
	}
	maps.DeleteFunc(counts, func(_ RequestKey, n int64) bool { return n == 0 })
	return sortedCounts(counts)
}

func parseRequests(text []byte) ([]RequestCount, error) {
	counts := map[RequestKey]int64{}
	err := eachSample(text, "apiserver_request_total", func(l map[string]string, v float64) {
		if l["resource"] == "" {
			return
		}
		code, _ := strconv.Atoi(l["code"])
		counts[RequestKey{
			Verb: metricVerb(l["verb"]), Group: l["group"], Resource: l["resource"],
			Subresource: l["subresource"], Code: code,
		}] += int64(v)
	})
	return sortedCounts(counts), err
}

// metricVerb turns the HTTP verb of the metrics into Kubernetes' own.
func metricVerb(v string) string {
	switch v {
	case "POST":
		return "create"
	case "PUT":
		return "update"
	default:
		return strings.ToLower(v)
	}
}

func sortedCounts(counts map[RequestKey]int64) []RequestCount {
	list := make([]RequestCount, 0, len(counts))
	for k, n := range counts {
		list = append(list, RequestCount{k, n})
	}
	slices.SortFunc(list, func(a, b RequestCount) int {
		return cmp.Or(
			cmp.Compare(a.Client, b.Client), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Resource, b.Resource),
			cmp.Compare(a.Subresource, b.Subresource), cmp.Compare(a.Verb, b.Verb), cmp.Compare(a.Code, b.Code))
	})
	return list
}

// eachSample calls f with the labels and value of each sample of one metric in
// Prometheus' text format. It reads that metric's lines only: there are
// thousands of others.
func eachSample(text []byte, metric string, f func(map[string]string, float64)) error {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), metric)
		if !ok || rest == "" || (rest[0] != '{' && rest[0] != ' ') {
			continue
		}
		labels, value, err := parseSample(rest)
		if err != nil {
			return fmt.Errorf("line %q: %w", lines.Text(), err)
		}
		f(labels, value)
	}
	return lines.Err()
}

// parseSample parses `{a="b",c="d"} 12`, with or without the labels.
func parseSample(s string) (map[string]string, float64, error) {
	labels := map[string]string{}
	if s[0] == '{' {
		s = s[1:]
		for !strings.HasPrefix(s, "}") {
			name, rest, ok := strings.Cut(s, "=")
			if !ok {
				return nil, 0, fmt.Errorf("no end of the labels")
			}
			quoted, err := strconv.QuotedPrefix(rest)
			if err != nil {
				return nil, 0, fmt.Errorf("value of label %s: %w", name, err)
			}
			if labels[name], err = strconv.Unquote(quoted); err != nil {
				return nil, 0, fmt.Errorf("value of label %s: %w", name, err)
			}
			s = strings.TrimPrefix(rest[len(quoted):], ",")
		}
		s = s[1:]
	}
	fields := strings.Fields(s)
	if len(fields) == 0 {
		return nil, 0, fmt.Errorf("no value")
	}
	v, err := strconv.ParseFloat(fields[0], 64)
	return labels, v, err
}
