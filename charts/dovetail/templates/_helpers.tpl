{{- define "dovetail.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.additionalLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "dovetail.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "dovetail.image" -}}
{{ .root.Values.images.registry }}/{{ .name }}:{{ .root.Values.images.tag | default .root.Chart.AppVersion }}
{{- with index .root.Values.images.digests .name }}@{{ . }}{{ end }}
{{- end }}

{{- define "dovetail.serviceAccount" -}}
{{ (index .root.Values .component).serviceAccount.name | default (printf "dovetail-%s" .component) }}
{{- end }}

{{- define "dovetail.clusterName" -}}
{{ required "settings.clusterName is required: give the name of the EKS cluster, --set settings.clusterName=NAME" .Values.settings.clusterName }}
{{- end }}
