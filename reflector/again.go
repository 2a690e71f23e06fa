package reflector

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
)

// sentPatch is the last patch sent to a twin.
type sentPatch struct {
	patch string
	at    time.Time
}

// sentLately says whether this very patch was sent to the twin within retryRefused. The provider then refuses it, or
// something there undoes it: sending it again at once would be a storm.
func (p *Pair) sentLately(k key, patch []byte, now time.Time) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	last, ok := p.sent[k]
	return ok && last.patch == string(patch) && now.Sub(last.at) < retryRefused
}

func (p *Pair) noteSent(k key, todo step, now time.Time) {
	if todo.kind != stepPatch {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent[k] = sentPatch{string(todo.patch), now}
}

// refusedTwin is a twin that the provider did not take.
type refusedTwin struct {
	twin *corev1.Pod
	at   time.Time
}

// refusedLately is how long to wait before this very twin is tried again: what was just written about its refusal brings its key back.
// Zero: try it. A pod that was changed is another twin.
func (p *Pair) refusedLately(k key, twin *corev1.Pod, now time.Time) time.Duration {
	p.mu.RLock()
	last, ok := p.refused[k]
	p.mu.RUnlock()
	if left := last.at.Add(retryRefused).Sub(now); ok && left > 0 && apiequality.Semantic.DeepEqual(last.twin, twin) {
		return left
	}
	return 0
}

func (p *Pair) noteRefused(k key, twin *corev1.Pod, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused[k] = refusedTwin{twin, now}
}
