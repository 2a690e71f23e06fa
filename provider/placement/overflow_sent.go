package placement

import (
	"slices"
	"strings"
	"time"
)

// maxSent is how many entries AnnotationBurst keeps, the last ones: it says where a pod was tried, it is no log.
const maxSent = 64

// Sent is one entry of AnnotationBurst: a peer that a pod was sent to, and when.
type Sent struct {
	Peer string
	At   time.Time
}

// ParseBurst reads the value of AnnotationBurst, oldest first. What it cannot read it leaves out.
func ParseBurst(value string) []Sent {
	if value == "" {
		return nil
	}
	var out []Sent
	for entry := range strings.SplitSeq(value, ",") {
		peer, when, _ := strings.Cut(strings.TrimSpace(entry), "=")
		at, err := time.Parse(time.RFC3339, when)
		if peer != "" && err == nil {
			out = append(out, Sent{peer, at})
		}
	}
	return out
}

// AppendBurst returns the value of AnnotationBurst with one more entry.
func AppendBurst(value, peer string, at time.Time) string {
	var entries []string
	if value != "" {
		entries = strings.Split(value, ",")
	}
	entries = append(entries, peer+"="+at.UTC().Format(time.RFC3339))
	return strings.Join(slices.Delete(entries, 0, max(0, len(entries)-maxSent)), ",")
}
