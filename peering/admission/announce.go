package admission

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// People apply a policy and the workload it is for in one go. The first policy of a namespace is therefore let in when the API server
// asks about new pods there, and pods that come before this process has seen the policy wait for it.
const (
	// settle is how long an API server is given to take note of a changed registration.
	settle = 250 * time.Millisecond
	// announcedFor is how long a namespace stays registered for a policy that was announced and did not come.
	announcedFor = 30 * time.Second
	// awaitPolicy bounds the wait of a pod for a policy that was announced.
	awaitPolicy = time.Second
	awaitEvery  = 5 * time.Millisecond
)

// announce registers a namespace whose first policy is being made, and returns when the API server asks about its pods. What goes
// wrong is logged: the policy is made all the same, and followed a moment later.
func (s *Server) announce(ctx context.Context, namespace string) {
	if s.cfg.Policies.Set(namespace).Len() > 0 {
		return
	}
	s.mu.Lock()
	s.announced[namespace] = time.Now().Add(announcedFor)
	s.mu.Unlock()
	if _, err := s.register(ctx, ""); err != nil {
		s.cfg.Log.Warn("first policy of a namespace not announced", zap.String("namespace", namespace), zap.Error(err))
		return
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
	}
}

// awaitAnnounced waits until the first policy of a namespace, which was announced, is known here.
func (s *Server) awaitAnnounced(ctx context.Context, namespace string) {
	s.mu.Lock()
	_, announced := s.announced[namespace]
	s.mu.Unlock()
	if !announced {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, awaitPolicy)
	defer cancel()
	ticker := time.NewTicker(awaitEvery)
	defer ticker.Stop()
	for s.cfg.Policies.Set(namespace).Len() == 0 {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
	s.mu.Lock()
	delete(s.announced, namespace)
	s.mu.Unlock()
}

// expected lists the namespaces that were announced lately.
func (s *Server) expected(now time.Time) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for namespace, until := range s.announced {
		if now.After(until) {
			delete(s.announced, namespace)
			continue
		}
		out = append(out, namespace)
	}
	return out
}
