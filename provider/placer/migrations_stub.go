package placer

import (
	"go.uber.org/zap"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
)

// stub: all of this file; placer.go has the real one.

// Config says in which cluster pods are placed.
type Config struct {
	Client   kubernetes.Interface
	REST     *rest.Config
	Policies Policies
	Events   record.EventRecorder
	Log      *zap.Logger
	Clock    clock.Clock
}
