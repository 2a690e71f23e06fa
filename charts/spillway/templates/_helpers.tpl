{{/* What every object carries. Call it with a list: the root and the component. */}}
{{- define "spillway.labels" -}}
{{- $root := index . 0 -}}
{{ include "spillway.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: spillway
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What tells the pods of a component from all others; it never changes. Call it with a list: the root and the component. */}}
{{- define "spillway.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: spillway
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* A file of objects that is no template, each of them with the labels. Call it with a list: the root, the component, the text. */}}
{{- define "spillway.labelled" -}}
{{- $labels := include "spillway.labels" . | nindent 4 -}}
{{- regexReplaceAllLiteral "(?m)^metadata:$" (index . 2) (printf "metadata:\n  labels:%s" $labels) -}}
{{- end }}

{{- define "spillway.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end }}

{{/* Name of the PriorityClass of a component; empty: the cluster's default. Call it with a list: the root and the component. */}}
{{- define "spillway.priorityClass" -}}
{{- $root := index . 0 -}}
{{- $own := ternary (printf "spillway-%s" (index . 1)) "" $root.Values.priorityClasses.create -}}
{{- (index $root.Values (index . 1)).priorityClassName | default $own -}}
{{- end }}

{{/* Where pods of Spillway may run: on Linux, and on no virtual node, whatever taints they tolerate. Call it with further expressions. */}}
{{- define "spillway.nodeAffinity" -}}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
      - matchExpressions:
          - {key: kubernetes.io/os, operator: In, values: [linux]}
          - {key: type, operator: NotIn, values: [virtual-kubelet]}
          {{- with . }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
{{- end }}
