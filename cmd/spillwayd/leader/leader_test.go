package leader

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// promised is how soon another replica leads when one is killed.
const promised = 5 * time.Second

func TestKilled(t *testing.T) {
	w := newWorld(t)
	a := w.start("a", "127.0.0.2", 0)
	w.await(promised, "a")
	w.start("b", "127.0.0.3", 0)
	w.followed(a)
	a.kill() // its work cannot do anything any more
	t.Logf("another leads after %s", w.await(promised, "a", "b").Round(time.Millisecond))
}

// TestStopped: the next one begins when the work has ended, not before, and at once.
func TestStopped(t *testing.T) {
	const ending = 500 * time.Millisecond
	w := newWorld(t)
	a := w.start("a", "127.0.0.2", ending)
	w.await(promised, "a")
	w.start("b", "127.0.0.3", 0)
	w.followed(a)
	began := time.Now()
	a.stop()
	w.await(promised)
	ended := time.Now()
	if took := ended.Sub(began); took < ending {
		t.Errorf("ended after %s", took)
	}
	w.await(promised, "b")
	t.Logf("another leads %s after the work ended", time.Since(ended).Round(time.Millisecond))
	if took := time.Since(ended); took >= time.Second {
		t.Errorf("another leads only %s after the work ended", took)
	}
	if err := <-a.returned; err != nil {
		t.Error(err)
	}
}

// TestSilent: a leader that cannot be reached but writes on keeps the Lease.
func TestSilent(t *testing.T) {
	w := newWorld(t)
	a := w.start("a", "127.0.0.2", 0)
	_ = a.server.Close() // as by a policy that refuses: nobody has ever seen it answer
	w.await(promised, "a")
	b := w.start("b", "127.0.0.3", 0)
	select {
	case <-time.After(3 * followSlowly):
	case err := <-b.returned:
		t.Fatal(err)
	}
	w.await(0, "a")
}

// TestRestarted: a replica that comes back under its name, on the same address, goes on at once.
func TestRestarted(t *testing.T) {
	w := newWorld(t)
	a := w.start("a", "127.0.0.2", 0)
	w.await(promised, "a")
	a.kill()
	w.start("a", "127.0.0.2", 0)
	w.await(promised, "a", "a")
}

// TestTaken: a leader that finds the Lease taken ends its work at once and stands by.
func TestTaken(t *testing.T) {
	w := newWorld(t)
	w.start("a", "127.0.0.2", 0)
	w.await(promised, "a")
	w.mu.Lock()
	other := "somebody"
	taken := w.lease.DeepCopy()
	taken.Spec.HolderIdentity = &other
	w.store(taken)
	w.mu.Unlock()
	if took := w.await(promised); took > retryPeriod+time.Second {
		t.Errorf("worked for %s after the Lease was taken", took)
	}
}

func TestEnded(t *testing.T) {
	refused := fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
	silent := errors.New("i/o timeout")
	running := corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
		{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}}}
	over := corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
		{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}}}}
	again := corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
		State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}}}}
	for name, row := range map[string]struct {
		seen, gone bool
		pod        corev1.Pod
		dialled    error
		want       bool
	}{
		"answers":                            {true, false, running, nil, false},
		"answers, its pod is gone":           {true, true, corev1.Pod{}, nil, false},
		"refuses":                            {true, false, running, refused, true},
		"refuses, was never seen":            {false, false, running, refused, false},
		"silent":                             {true, false, running, silent, false},
		"silent, its pod is gone":            {true, true, corev1.Pod{}, silent, true},
		"silent, its pod is gone, not seen":  {false, true, corev1.Pod{}, silent, false},
		"silent, its container has ended":    {true, false, over, silent, true},
		"silent, its container waits":        {true, false, again, silent, true},
		"silent, its container has no state": {true, false, corev1.Pod{}, silent, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := ended(&follower{seen: row.seen}, row.gone, &row.pod, row.dialled)
			if got != "" != row.want {
				t.Errorf("got %q", got)
			}
		})
	}
}
