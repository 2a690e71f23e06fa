package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
)

// auditPolicy: one event per request, when it ends; a watch, when it begins.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
`

// auditCounter counts what an audit log holds, reading on where it stopped.
type auditCounter struct {
	mu      sync.Mutex // guards the following
	offset  int64
	counts  map[RequestKey]int64
	markers int
}

// markerAgent is the user agent of a request that marks a place in the log.
const markerAgent = userAgent + "-marker"

// read counts all requests that ended before the call. The log is written
// asynchronously but in order: a request of our own, when it is there, shows
// that all earlier ones are.
func (a *auditCounter) read(ctx context.Context, c *Cluster) ([]RequestCount, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.counts == nil {
		a.counts = map[RequestKey]int64{}
	}
	a.markers++
	marker := fmt.Sprintf("%s/%d", markerAgent, a.markers)
	config := c.Config()
	config.UserAgent = marker
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", c.Name(), err)
	}
	if err := client.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Error(); err != nil {
		return nil, fmt.Errorf("mark the audit log of %s: %w", c.Name(), err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err = poll(ctx, 20*time.Millisecond, func(context.Context) (bool, error) {
		return a.readOnLocked(c.layout.auditLog(), marker)
	})
	if err != nil {
		return nil, fmt.Errorf("read the audit log of %s: %w", c.Name(), err)
	}
	return sortedCounts(a.counts), nil
}

// readOnLocked counts whole new lines up to the marker and says whether it
// came to it.
func (a *auditCounter) readOnLocked(path, marker string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if _, err := f.Seek(a.offset, io.SeekStart); err != nil {
		return false, err
	}
	lines := bufio.NewReaderSize(f, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return false, errors.New("the mark is not there yet")
		}
		if err != nil {
			return false, err
		}
		a.offset += int64(len(line))
		key, agent, err := parseAudit(line)
		if err != nil {
			return false, fmt.Errorf("line %q: %w", bytes.TrimSpace(line), err)
		}
		if agent == marker {
			return true, nil
		}
		if key != (RequestKey{}) {
			a.counts[key]++
		}
	}
}

// auditEvent is what is needed of audit.k8s.io/v1 Event.
type auditEvent struct {
	Stage      string `json:"stage"`
	RequestURI string `json:"requestURI"`
	Verb       string `json:"verb"`
	UserAgent  string `json:"userAgent"`
	ObjectRef  *struct {
		APIGroup    string `json:"apiGroup"`
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

// parseAudit gives the kind of request and the whole user agent of one line;
// an empty key for what does not count.
func parseAudit(line []byte) (RequestKey, string, error) {
	var e auditEvent
	if err := json.Unmarshal(line, &e); err != nil {
		return RequestKey{}, "", err
	}
	longRunning := e.Verb == "watch"
	counted := e.ObjectRef != nil && e.ObjectRef.Resource != "" &&
		(e.Stage == "Panic" || longRunning == (e.Stage == "ResponseStarted"))
	if !counted {
		return RequestKey{}, e.UserAgent, nil
	}
	verb := e.Verb
	if u, err := url.Parse(e.RequestURI); err == nil && verb == "patch" && u.Query().Has("force") {
		verb = "apply" // only server-side apply takes it
	}
	return RequestKey{
		Verb: verb, Group: e.ObjectRef.APIGroup, Resource: e.ObjectRef.Resource,
		Subresource: e.ObjectRef.Subresource, Client: clientName(e.UserAgent), Code: e.ResponseStatus.Code,
	}, e.UserAgent, nil
}

// clientName is the program's name of a user agent such as
// "kubectl/v1.36.3 (linux/amd64) kubernetes/abc".
func clientName(agent string) string {
	if end := strings.IndexAny(agent, "/ "); end >= 0 {
		return agent[:end]
	}
	return agent
}
