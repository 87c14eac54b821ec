{{- define "mlserve.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- /* Names of objects: the release's name, with the chart's unless it is in there already. */ -}}
{{- define "mlserve.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "mlserve.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "mlserve.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "mlserve.operatorName" -}}
{{- printf "%s-operator" (include "mlserve.fullname" .) -}}
{{- end -}}

{{- define "mlserve.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "mlserve.operatorName" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /* What a selector may rest on: it can never change after the first install. */ -}}
{{- define "mlserve.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mlserve.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "mlserve.labels" -}}
{{ include "mlserve.selectorLabels" . }}
app.kubernetes.io/part-of: mlserve
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* An image reference; a digest decides over a tag. Call with a list: the image's values, the root context. */ -}}
{{- define "mlserve.image" -}}
{{- $image := index . 0 -}}{{- $root := index . 1 -}}
{{- $name := $image.repository -}}
{{- if $image.registry }}{{ $name = printf "%s/%s" $image.registry $image.repository }}{{ end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* Combinations that a schema cannot see. */ -}}
{{- define "mlserve.validate" -}}
{{- if gt (int .Values.replicaCount) 1 -}}
{{- if not .Values.leaderElection.enabled -}}
{{- fail "replicaCount > 1 needs leaderElection.enabled=true: two operators that both write would undo each other's rollouts" -}}
{{- end -}}
{{- if .Values.history.persistence.enabled -}}
{{- fail "replicaCount > 1 cannot share history.persistence (a SQLite file has one writer): use one replica, or disable it" -}}
{{- end -}}
{{- end -}}
{{- end -}}
