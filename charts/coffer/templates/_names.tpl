{{/* Names and labels. */}}

{{- define "coffer.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "coffer.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "coffer.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "coffer.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What pods are found by; it can never change. */}}
{{- define "coffer.selector" -}}
app.kubernetes.io/name: {{ include "coffer.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "coffer.labels" -}}
{{- $own := dict "app" (include "coffer.name" .) "app.kubernetes.io/version" .Chart.AppVersion
      "app.kubernetes.io/managed-by" .Release.Service
      "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") -}}
{{- $settled := include "coffer.settled" . | fromJson -}}
{{- toYaml (merge (include "coffer.selector" . | fromYaml) $settled.commonLabels $own) -}}
{{- end -}}

{{/* On pods: nothing that changes with a version, so that a new chart alone starts no pod anew. */}}
{{- define "coffer.podLabels" -}}
{{- $settled := include "coffer.settled" . | fromJson -}}
{{- toYaml (merge (include "coffer.selector" . | fromYaml) $settled.podLabels $settled.commonLabels (dict "app" (include "coffer.name" .))) -}}
{{- end -}}

{{- define "coffer.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "coffer.fullname" .) -}}
{{- end -}}

{{- define "coffer.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}
